"""The part of the proxy that carries: it takes requests, asks which fault befalls each, and passes on the rest.

A client with a certificate is passed on by impersonation, for nobody can pass on a certificate; a bearer token goes
through as it is, over a connection that has no certificate. Answers are streamed as they come. It lives in one event
loop, and decides nothing: `choose` names the fault, `record` is told of each call.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import web
from kubernetes.client import Configuration
from yarl import URL

from . import calls
from .calls import Call, Caller
from .faults import Answer, Cut, Fault, Gone, Latency, Lost, gone_event, status

# What concerns one connection only, and what the client library would add of its own.
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "authorization"}
ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Broken(Exception):
    """The client's connection is to break off without another word."""


@dataclass(eq=False, slots=True)
class Running:
    """A request under way."""

    call: Call
    request: web.BaseRequest
    expired: asyncio.Event = field(default_factory=asyncio.Event)


class Gateway:
    """It serves the sockets that it is given, towards the API server of `upstream`."""

    def __init__(
        self,
        upstream: Configuration,
        tls: ssl.SSLContext,
        choose: Callable[[Call], Fault | None],
        record: Callable[[Call], None],
    ) -> None:
        self._upstream = upstream
        self._tls = tls
        self._choose = choose
        self._record = record
        self._running: set[Running] = set()

    async def begin(self) -> None:
        """Prepare both ways on: with our own rights, to impersonate, and with none, for tokens."""
        self._certified = self._session(with_certificate=True)
        self._plain = self._session(with_certificate=False)
        self._runner = web.ServerRunner(web.Server(self._serve, handler_cancellation=True), shutdown_timeout=0)
        await self._runner.setup()

    async def end(self) -> None:
        """Break what runs and give everything back."""
        await self.close()
        await self._runner.cleanup()
        await self._certified.close()
        await self._plain.close()

    async def open(self, sockets: list[socket.socket]) -> None:
        """Serve these sockets."""
        for listening in sockets:
            await web.SockSite(self._runner, listening, ssl_context=self._tls).start()

    async def close(self) -> None:
        """Serve none any more, and break every connection that is open, idle ones too."""
        for site in list(self._runner.sites):
            await site.stop()
        for connection in list(getattr(self._runner.server, "connections", ())):
            if connection.transport:
                connection.transport.abort()

    async def expire(self, where: Mapping[str, str]) -> int:
        """End the watches that fit with the event 410."""
        return self._each(where, lambda running: running.expired.set())

    async def cut(self, where: Mapping[str, str]) -> int:
        """Break the connections of the running calls that fit."""
        return self._each(where, lambda running: _abort(running.request))

    def _each(self, where: Mapping[str, str], act: Callable[[Running], object]) -> int:
        fitting = [running for running in self._running if running.call.fits(where)]
        for running in fitting:
            act(running)
        return len(fitting)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        caller = calls.caller(certificate, request.headers.get("Authorization", ""))
        call = calls.read(request.method, request.path, request.query, caller.user)
        running = Running(call, request)
        self._running.add(running)
        try:
            return await self._with_fault(running, caller)
        except (Broken, aiohttp.ClientError):
            _abort(request)
            raise asyncio.CancelledError from None
        finally:
            self._running.discard(running)

    async def _with_fault(self, running: Running, caller: Caller) -> web.StreamResponse:
        fault = self._choose(running.call)
        running.call = replace(running.call, fault=type(fault).__name__ if fault else "")
        match fault:
            case Answer():
                return self._error(running, fault)
            case Gone():
                return await self._gone(running)
            case Cut():
                self._record(running.call)
                raise Broken
            case Latency():
                await asyncio.sleep(fault.seconds)
        return await self._pass_on(running, caller)

    def _error(self, running: Running, answer: Answer) -> web.StreamResponse:
        self._record(replace(running.call, status=answer.status))
        headers = {} if answer.retry_after is None else {"Retry-After": str(answer.retry_after)}
        return web.json_response(status(answer.status), status=answer.status, headers=headers)

    async def _gone(self, running: Running) -> web.StreamResponse:
        self._record(replace(running.call, status=200))
        return web.Response(body=gone_event(), content_type="application/json")

    async def _pass_on(self, running: Running, caller: Caller) -> web.StreamResponse:
        request = running.request
        body = request.content if request.can_read_body else None
        session = self._certified if caller.certified else self._plain
        url = URL(self._upstream.host + request.raw_path, encoded=True)
        async with session.request(
            request.method, url, headers=_onward(request, caller), data=body, allow_redirects=False
        ) as answer:
            self._record(replace(running.call, status=answer.status))
            if running.call.fault == Lost.__name__:
                await answer.read()
                raise Broken
            return await _stream(running, answer)

    def _session(self, with_certificate: bool) -> aiohttp.ClientSession:
        tls = ssl.create_default_context(cafile=self._upstream.ssl_ca_cert)
        headers = {}
        if with_certificate and self._upstream.cert_file:
            tls.load_cert_chain(self._upstream.cert_file, self._upstream.key_file)
        elif with_certificate:
            headers["Authorization"] = str(self._upstream.get_api_key_with_prefix("authorization"))
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        unlimited = aiohttp.ClientTimeout(total=None)
        return aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=unlimited, auto_decompress=False, skip_auto_headers=ADDED
        )


def _onward(request: web.BaseRequest, caller: Caller) -> list[tuple[str, str]]:
    """The request's headers, and for whom it is made."""
    headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP]
    if not caller.certified:
        return headers + [("Authorization", value) for value in request.headers.getall("Authorization", [])]
    return [*headers, ("Impersonate-User", caller.user), *(("Impersonate-Group", group) for group in caller.groups)]


async def _stream(running: Running, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Give the client the answer piece by piece, until it ends or is made to."""
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP]
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    response.headers.extend(headers)
    await response.prepare(running.request)
    async for piece in _pieces(running, answer):
        await response.write(piece)
    await response.write_eof()
    return response


async def _pieces(running: Running, answer: aiohttp.ClientResponse) -> Any:
    expired: asyncio.Future[Any] = asyncio.ensure_future(running.expired.wait())
    piece = expired
    try:
        while True:
            piece = asyncio.ensure_future(answer.content.readany())
            await asyncio.wait((piece, expired), return_when=asyncio.FIRST_COMPLETED)
            if expired.done():
                yield gone_event()
                return
            if not (content := piece.result()):
                return
            yield content
    finally:
        for waiting in (expired, piece):
            waiting.cancel()
        await asyncio.gather(expired, piece, return_exceptions=True)


def _abort(request: web.BaseRequest) -> None:
    if request.transport:
        request.transport.abort()
