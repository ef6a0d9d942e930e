"""HTTP: how it goes, for the kubelet and for Prometheus.

`/healthz` tells whether events are being processed: the event loop turns, and, while leading, the watches run, no key is
left lying and no round lasts for ever. An API server or a database that is away is no reason to be restarted, whatever a
call to it may last. `/readyz` tells whether this program is one for the database: who has not seen that yet, or never will,
takes no former operator's place. `/metrics` tells the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

from fibflow import probes

LOOP_TURNS = 15.0
"""Seconds within which the event loop must have turned."""
LEFT_LYING = 150.0
"""Seconds in which some key must have been taken if any is ready; far more than a round of calls that all time out."""
LONGEST_ROUND = 600.0
"""Seconds that a loop may be at one round of its work."""


class Rounds:
    """Since when each loop has been at its present round; one that waits is at none. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    @contextmanager
    def at(self, name: str) -> Iterator[None]:
        """A round, from its begin to its end."""
        self._since[name] = self._clock()
        try:
            yield
        finally:
            self._since.pop(name, None)

    def complaints(self) -> list[str]:
        """The rounds that last too long, from any thread."""
        lasting = {name: self._clock() - since for name, since in self._since.copy().items()}
        return [f"{name}: a round has lasted for {age:.0f} s" for name, age in lasting.items() if age > LONGEST_ROUND]


def left_lying(stalled: Mapping[str, float]) -> list[str]:
    """The queues from which nobody takes, of these and the seconds since somebody did."""
    return [f"{name}: no key has been taken for {age:.0f} s" for name, age in stalled.items() if age > LEFT_LYING]


class Health:
    """What is told. `complaints` says what is wrong just now, from any thread."""

    def __init__(self, complaints: Callable[[], list[str]]) -> None:
        self._complaints = complaints
        self._turned = time.monotonic()

    async def beat(self) -> None:
        """Note that the event loop turns, until cancelled."""
        while True:
            self._turned = time.monotonic()
            await asyncio.sleep(1)

    def complaints(self) -> list[str]:
        """Why this process should be restarted; none is good."""
        silent = time.monotonic() - self._turned
        stuck = [f"the event loop has not turned for {silent:.0f} s"] if silent > LOOP_TURNS else []
        return stuck + self._complaints()


def serve(health: Health, awaited: Callable[[], list[str]], port: int) -> ThreadingHTTPServer:
    """Answer on a port, from threads; the server, to be shut down. `awaited`: what a rollout should wait for."""
    return probes.serve(port, {"/healthz": health.complaints, "/readyz": awaited})
