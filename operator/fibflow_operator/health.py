"""HTTP: how it goes, for the kubelet and for Prometheus.

`/healthz` tells whether events are being processed: the event loop turns, and, while leading, the watch runs and no key
is left lying. An API server or a database that is away is no reason to be restarted. `/metrics` tells the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http.server import ThreadingHTTPServer

from fibflow import probes

LOOP_TURNS = 15.0
"""Seconds within which the event loop must have turned."""
LEFT_LYING = 60.0
"""Seconds that a key which is ready may lie untouched."""


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


def serve(health: Health, port: int) -> ThreadingHTTPServer:
    """Answer on a port, from threads; the server, to be shut down."""
    return probes.serve(port, {"/healthz": health.complaints})
