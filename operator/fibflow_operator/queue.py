"""A work queue, as controllers have one: keys to be worked on, each by one at a time, and again after a while if it failed.

A key that is added while it is worked on comes again afterwards. A key that failed waits twice as long each time, with
jitter, so that what failed together is not tried together; adding it ends the wait, for something has changed. It knows
nothing of what a key names.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST, LONGEST = 0.5, 30.0
"""Seconds of the first wait after a failure, and of the longest."""


class Queue(Generic[K]):
    """Not for several threads. `clock` in seconds, `chance` from 0 to 1."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._chance = chance
        self._ready: dict[K, float] = {}
        self._waiting: dict[K, float] = {}
        self._alarms: list[tuple[float, int, K]] = []
        self._alarm_number = 0
        self._busy: set[K] = set()
        self._dirty: set[K] = set()
        self._failures: dict[K, int] = {}
        self._more = asyncio.Event()
        self.drained = asyncio.Event()
        """Set while no key is ready."""
        self.drained.set()
        self._taken_at = clock()

    def add(self, keys: Iterable[K]) -> None:
        """Work on these as soon as possible."""
        for key in keys:
            self._waiting.pop(key, None)
            if key in self._busy:
                self._dirty.add(key)
            else:
                self._ready.setdefault(key, self._clock())
        if self._ready:
            self._more.set()
            self.drained.clear()

    def take(self, limit: int) -> list[K]:
        """The keys to work on now, the oldest first, at most `limit`; each is to be `done` or `failed`."""
        self._wake()
        taken = [key for key, _ in zip(self._ready, range(limit), strict=False)]
        for key in taken:
            del self._ready[key]
        self._busy.update(taken)
        self._taken_at = self._clock() if taken else self._taken_at
        if not self._ready:
            self._more.clear()
            self.drained.set()
        return taken

    async def taking(self, limit: int) -> list[K]:
        """Wait until there are keys, and take them."""
        while not (taken := self.take(limit)):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.due_in):
                    await self._more.wait()
        return taken

    def done(self, key: K) -> None:
        """It went well."""
        self._failures.pop(key, None)
        self._end(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Work on this after so many seconds, unless it is added before; not if it is being worked on."""
        if key not in self._busy and key not in self._ready:
            self._wait(key, self._clock() + seconds)

    def failed(self, key: K, at_least: float = 0) -> None:
        """It did not; it comes again after a wait, of so many seconds at least."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        wait = min(FIRST * 2 ** min(failures, 30), LONGEST) * (0.5 + self._chance() / 2)
        if not self._end(key):
            self._wait(key, self._clock() + max(wait, at_least))

    def _end(self, key: K) -> bool:
        """Whether it is to be worked on again at once."""
        self._busy.discard(key)
        again = key in self._dirty
        if again:
            self._dirty.discard(key)
            self.add([key])
        return again

    def _wait(self, key: K, until: float) -> None:
        self._waiting[key] = until
        self._alarm_number += 1
        heapq.heappush(self._alarms, (until, self._alarm_number, key))
        self._more.set()  # who waits is to wait no longer than this

    def _wake(self) -> None:
        moment = self._clock()
        while self._alarms and self._alarms[0][0] <= moment:
            until, _, key = heapq.heappop(self._alarms)
            if self._waiting.get(key) == until:
                self.add([key])

    @property
    def due_in(self) -> float | None:
        """Seconds until a wait is over; None if nothing waits."""
        return max(self._alarms[0][0] - self._clock(), 0) if self._alarms else None

    @property
    def oldest(self) -> float:
        """Seconds that the key which is ready for longest has not been taken."""
        since = next(iter(tuple(self._ready.values())), None)  # a copy, for health and metrics ask from other threads
        return 0.0 if since is None else self._clock() - since

    @property
    def stalled(self) -> float:
        """Seconds for which keys were ready and none was taken: while that is little the work goes on, however slow it is."""
        return min(self.oldest, self._clock() - self._taken_at)

    @property
    def retrying(self) -> int:
        """Keys that failed and wait."""
        return len(self._waiting)

    def __contains__(self, key: K) -> bool:
        """Whether it is ready or worked on."""
        return key in self._ready or key in self._busy

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting) + len(self._busy)
