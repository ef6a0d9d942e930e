"""Strands: acts on one thing are done one after the other, acts on several things side by side, so many at once at most.

An act that is begun while one on the same thing lasts is left out: when that one ends, `again` is called, for whoever
decides to look anew. It knows nothing of what is done; an act sees to its own failures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from functools import partial


@dataclass(slots=True)
class Strands:
    """Of one event loop. `most`: how many acts are done at once."""

    most: int
    again: Callable[[], None]
    _room: asyncio.Semaphore = field(init=False)
    _lasting: dict[Hashable, asyncio.Task[None]] = field(default_factory=dict)
    _left_out: set[Hashable] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._room = asyncio.Semaphore(self.most)

    def begin(self, key: Hashable, act: Callable[[], Awaitable[None]]) -> None:
        """Act on this thing, unless an act on it lasts."""
        lasting = self._lasting.get(key)
        if lasting is not None and not lasting.done():
            self._left_out.add(key)
        else:
            self._lasting[key] = asyncio.create_task(self._do(act))
            self._lasting[key].add_done_callback(partial(self._ended, key))

    async def pause(self, seconds: float) -> None:
        """Return once nothing lasts any more, or after so many seconds."""
        if self._lasting:
            await asyncio.wait(self._lasting.values(), timeout=seconds)

    async def end(self) -> None:
        """Cancel what lasts, and return when it has ended."""
        lasting = list(self._lasting.values())
        for task in lasting:
            task.cancel()
        await asyncio.gather(*lasting, return_exceptions=True)

    async def _do(self, act: Callable[[], Awaitable[None]]) -> None:
        async with self._room:
            await act()

    def _ended(self, key: Hashable, task: asyncio.Task[None]) -> None:
        if self._lasting.get(key) is task:  # and not one that was begun as soon as this was done
            del self._lasting[key]
        if key in self._left_out:
            self._left_out.discard(key)
            self.again()
