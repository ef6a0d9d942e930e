"""A proxy in front of the API server that makes its faults, and remembers each call: who, which verb, what on.

    with proxy.fault(Answer(429, retry_after=1), times=2, verb="list", resource="pods"): ...
    proxy.expire(resource="crontasks")  # the event 410 in the watches that run
    with proxy.outage(): ...            # nobody listens
    proxy.journal.wait_for(verb="watch", resource="crontasks")

It is served by a thread of the test's own process, on loopback, and at the control machine's address for pods. It has
TLS on both sides with the cluster's authority. It carries no upgraded connections: exec, attach and port-forward go to
the API server itself.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from kubernetes.client import Configuration

from . import network
from .calls import Call
from .certificates import Authority
from .faults import Fault, Rule
from .gateway import Gateway
from .journal import Journal
from .machine import Machine

T = TypeVar("T")


class Proxy:
    """`with Proxy(…) as proxy:` serves while the block runs; with `inside`, also in that machine's network."""

    def __init__(self, upstream: Configuration, authority: Authority, inside: Machine | None = None) -> None:
        self.journal = Journal()
        self.port = self.port_inside = 0
        self._authority = authority
        self._inside = inside
        self._rules: list[Rule] = []
        self._gateway = Gateway(upstream, _tls(authority), self._choose, self.journal.add)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._gateway.begin())
        self._do(self._gateway.open(self._listen()))
        return self

    def __exit__(self, *_failure: object) -> None:
        self._do(self._gateway.end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def kubeconfig(self, path: Path, user: str, groups: tuple[str, ...] = (), inside: bool = False) -> Path:
        """A kubeconfig with which that user goes through the proxy, from here or from inside the cluster."""
        address = f"{network.CONTROL}:{self.port_inside}" if inside else f"127.0.0.1:{self.port}"
        return self._authority.kubeconfig(path, f"https://{address}", user, groups)

    @contextmanager
    def fault(self, fault: Fault, times: int | None = None, **where: str) -> Iterator[Rule]:
        """While the block runs, the fault befalls the calls that fit, `times` of them; the first that was set goes first."""
        rule = Rule(fault, where, times)
        self._rules.append(rule)
        try:
            yield rule
        finally:
            self._rules.remove(rule)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """While the block runs, every connection is broken, and new ones are refused."""
        self._do(self._gateway.close())
        try:
            yield
        finally:
            self._do(self._gateway.open(self._listen()))

    def expire(self, **where: str) -> int:
        """Send the event 410 into the running watches that fit, and end them; how many there were."""
        return self._do(self._gateway.expire({"verb": "watch"} | where))

    def cut(self, **where: str) -> int:
        """Break the connections of the calls that run and fit; how many there were."""
        return self._do(self._gateway.cut(where))

    def _choose(self, call: Call) -> Fault | None:
        return next((rule.fault for rule in list(self._rules) if rule.takes(call)), None)

    def _listen(self) -> list[socket.socket]:
        """Where clients come in: the same places again after an outage."""
        sockets = [socket.create_server(("127.0.0.1", self.port), backlog=512)]
        self.port = sockets[0].getsockname()[1]
        if self._inside:
            ports = [self.port_inside] if self.port_inside else network.PROXIES
            sockets.append(network.listen(self._inside, network.CONTROL, ports))
            self.port_inside = sockets[1].getsockname()[1]
        return sockets

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


def _tls(authority: Authority) -> ssl.SSLContext:
    """Clients may show a certificate of the authority, and know us by one."""
    certificate, key = authority.issue("proxy", "proxy", hosts=("127.0.0.1", network.CONTROL, "localhost"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
