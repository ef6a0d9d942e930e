"""A keyed executor: it runs calls about one key one at a time, calls about several keys side by side, so many at once at most.

A call that is submitted while another about its key runs is dropped. When that one ends, `again` is called, so that the caller
decides anew what is to be done. It knows nothing of what is done; a call sees to its own failures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from functools import partial


@dataclass(slots=True)
class KeyedExecutor:
    """Of one event loop. `most`: how many calls run at once."""

    most: int
    again: Callable[[], None]
    _limit: asyncio.Semaphore = field(init=False)
    _running: dict[Hashable, asyncio.Task[None]] = field(default_factory=dict)
    _dropped: set[Hashable] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._limit = asyncio.Semaphore(self.most)

    def submit(self, key: Hashable, call: Callable[[], Awaitable[None]]) -> None:
        """Run this call about a key, unless one about it runs."""
        running = self._running.get(key)
        if running is not None and not running.done():
            self._dropped.add(key)
        else:
            self._running[key] = asyncio.create_task(self._run(call))
            self._running[key].add_done_callback(partial(self._ended, key))

    async def wait(self, seconds: float) -> None:
        """Return once nothing runs any more, or after so many seconds."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=seconds)

    async def shutdown(self) -> None:
        """Cancel what runs, and return when it has ended."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, call: Callable[[], Awaitable[None]]) -> None:
        async with self._limit:
            await call()

    def _ended(self, key: Hashable, task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:  # and not one that was begun as soon as this was done
            del self._running[key]
        if key in self._dropped:
            self._dropped.discard(key)
            self.again()
