"""Calls to the API server: JSON there and back, a deadline on each, and two kinds of failure.

The official client knows how to reach the server and who we are (a kubeconfig, or a pod's service account). Its models
are not used: a resource that somebody made must not be able to break the reading of the others. A call blocks; callers
in the event loop go through `Api.run`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import urllib3
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from fibflow.errors import InvalidInput, one_line
from fibflow.metrics import counter

P = ParamSpec("P")
R = TypeVar("R")

CALLS = counter("fibflow_operator_api_calls", "Calls to the API server.", ["verb", "code"])
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
TIMEOUT = (3.0, 10.0)
"""Seconds until a connection stands, and until an answer goes on."""
THREADS = 16
KEPT_ALIVE = [
    *urllib3.connection.HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]
"""A watch is silent for a minute when nothing happens; one whose server went without a word is given up after ten seconds."""
LONGEST_WISH = 60.0
"""Seconds for which a server is believed that it is not to be asked again: what stands before it may say anything."""


class ApiFailure(Exception):
    """A call that did not do what it was to; `retry_after` in seconds, 0 if nothing was said of it."""

    retry_after = 0.0


class ApiUnavailable(ApiFailure):
    """No answer: the server cannot be reached, or the connection broke. The call may have been carried out."""


class ApiRefused(ApiFailure):
    """The server answered with an error."""

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.retry_after = min(max(0.0, retry_after), LONGEST_WISH)


@contextmanager
def understood(path: str) -> Iterator[None]:
    """Read an answer: one that is not what was asked for, whatever a proxy made of it, is none. Raises ApiUnavailable."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise ApiUnavailable(f"what {path} answers is not understood ({why[:200]})") from error


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the API server is and who we are, for whoever watches it."""

    server: str
    ca_file: str | None
    certificate: str | None
    key: str | None
    token: str | None
    insecure: bool


class Api:
    """The API server that a kubeconfig names, or the one of the pod that we run in. Raises InvalidInput."""

    def __init__(self, kubeconfig: str | None = None) -> None:
        self._client = _client(kubeconfig)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="api")

    def apart(self) -> Api:
        """The same server, with threads of its own: no call made here waits for those made there, however slow they are."""
        other = copy.copy(self)
        other._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="api")
        return other

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run what calls the API in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        timeout: float = TIMEOUT[1],
        patch: str = MERGE,
    ) -> dict[str, Any]:
        """One call; a PATCH of this kind. Raises ApiRefused, ApiUnavailable."""
        try:
            answer = self._send(method, path, query, body, timeout, patch)
            found: Any = json.loads(answer.read() or b"null")
        except (urllib3.exceptions.HTTPError, OSError, ValueError, RecursionError) as error:
            CALLS.labels(method, "none").inc()
            raise ApiUnavailable(one_line(error)[:300]) from error
        CALLS.labels(method, str(answer.status)).inc()
        if answer.status >= 400:
            raise _refused(answer.status, answer.headers or {}, found)
        return found if isinstance(found, dict) else {}

    def lines(self, path: str, query: Mapping[str, str], timeout: float) -> Iterator[bytes]:
        """What a call answers line by line, as it comes; `timeout` seconds of silence end it. Raises like `call`."""
        try:
            answer = self._send("GET", path, query, None, timeout)
            if answer.status >= 400:
                raise _refused(answer.status, answer.headers or {}, json.loads(answer.read() or b"null"))
            yield from _lines(answer.response)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ApiUnavailable(one_line(error)[:300]) from error

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, body: object, timeout: float, patch: str = MERGE
    ) -> Any:
        kind = patch if method == "PATCH" else "application/json"
        request = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
        )
        return self._client.call_api(*request, _request_timeout=(TIMEOUT[0], timeout))

    def credentials(self) -> Credentials:
        """What a watch needs; a service account's token is read anew."""
        settings = self._client.configuration
        header = settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        token = header.removeprefix("Bearer ").removeprefix("bearer ") if header else None
        return Credentials(
            settings.host, settings.ssl_ca_cert, settings.cert_file, settings.key_file, token, not settings.verify_ssl
        )

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lines(answer: urllib3.HTTPResponse) -> Iterator[bytes]:
    rest = b""
    try:
        for piece in answer.stream(65536, decode_content=True):
            *whole, rest = (rest + piece).split(b"\n")
            yield from filter(None, whole)
    finally:
        answer.close()
        answer.release_conn()


def _client(kubeconfig: str | None) -> client.ApiClient:
    settings = client.Configuration()
    try:
        if kubeconfig:
            config.load_kube_config(kubeconfig, client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        way_out = f"leads to no cluster ({one_line(error)}); give a kubeconfig with --kubeconfig, or run in a pod"
        raise InvalidInput("kubeconfig", kubeconfig, way_out) from None
    settings.socket_options = KEPT_ALIVE
    settings.retries = False  # we know better when to try again
    settings.connection_pool_maxsize = 3 * THREADS  # those of `apart`, too
    return client.ApiClient(settings)


def _refused(status: int, headers: Mapping[str, str], found: object) -> ApiRefused:
    """The server's own sentence, if it gave one."""
    message = found.get("message") if isinstance(found, dict) else None
    try:
        after = float(headers.get("Retry-After", 0))
    except ValueError:
        after = 0.0
    return ApiRefused(status, one_line(message or "no reason given")[:300], after)
