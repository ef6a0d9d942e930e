"""Deadlines: one timer for all attempts, set to the earliest of them.

A timer for each attempt would cost more than most attempts do. When it rings, the running ones are looked through and it
is set to the earliest that is left; one that ended meanwhile makes it ring for nothing, which does no harm.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable

from fibflow_worker.execution import Attempt


class Deadlines:
    """Calls `over` for every running attempt whose time is up. `earliest` may be read from any thread (monotonic)."""

    def __init__(self, running: Callable[[], Iterable[Attempt]], over: Callable[[Attempt], None]) -> None:
        self._running, self._over = running, over
        self._timer: asyncio.TimerHandle | None = None
        self.earliest = math.inf

    def watch(self, attempt: Attempt) -> None:
        if attempt.deadline < self.earliest:
            self._set(attempt.deadline)

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.earliest = at
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(at - time.monotonic(), 0), self._ring)

    def _ring(self) -> None:
        self._timer, self.earliest = None, math.inf
        moment = time.monotonic()
        for attempt in [attempt for attempt in self._running() if attempt.deadline <= moment]:
            self._over(attempt)
        earliest = min((attempt.deadline for attempt in self._running()), default=math.inf)
        if earliest < math.inf:
            self._set(earliest)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
