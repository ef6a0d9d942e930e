"""Lanes: for which task types this worker claims, how much room each has, and from where.

The types are those of the app's handlers, which may change while the worker runs, as far as they are bound to its pool;
or the only one that it is to run.
The low-water mark of a lane (see fibflow.store.claim) is remembered here and dropped once a second and whenever work is
announced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from fibflow.app import LOOP, App, Handler
from fibflow.model import SECOND
from fibflow.store.claim import LOWEST, Claimed, Lane
from fibflow.store.database import Database
from fibflow.store.tasktypes import Declaration, declare_types, limits_of
from fibflow_worker.settings import Settings
from fibflow_worker.slots import Slots

READ_EVERY = 10.0
"""Seconds after which the limits and pools of the types are read again: a resource may have changed them."""
MARKED = 1.0
"""Seconds for which a low-water mark is kept."""
UNSERVED = Handler(Declaration("unserved"), lambda: None, LOOP, None)
"""Stands in for a handler that was removed between the claim and the start."""


class Lanes:
    """The lanes of one worker."""

    def __init__(self, app: App, database: Database, slots: Slots, settings: Settings) -> None:
        self.app, self.database, self.slots = app, database, slots
        self.pool, self.unbound, self.only = settings.pool, settings.unbound, settings.type
        self.names: dict[int, str] = {}
        self._announced: set[str] = set()
        self._limits: dict[int, int | None] = {}
        self._version = -1
        self._refreshing = asyncio.Lock()
        self._read_at = -READ_EVERY
        self._lows: dict[int, int] = {}
        self._dry: set[int] = set()
        self._marked_at = 0.0

    async def refresh(self) -> None:
        """Declare the types of the handlers, if these have changed. Limits are read again now and then."""
        async with self._refreshing:  # what an earlier call declares must not come after what a later one does
            changed = self.app.version != self._version
            if changed:
                await self._declare()
            if changed or time.monotonic() - self._read_at >= READ_EVERY:
                self._limits = await self.database.run(limits_of, list(self.names), self.pool, self.unbound)
                self._read_at = time.monotonic()

    @property
    def served(self) -> dict[str, Handler]:
        """The handlers of the types that this worker is to run, by name."""
        return {name: each for name, each in self.app.handlers.items() if self.only in (None, name)}

    @property
    def own(self) -> list[int]:
        """The types that are this worker's to claim."""
        return list(self._limits)

    async def _declare(self) -> None:
        version = self.app.version
        declarations = [handler.declaration for handler in self.served.values()]
        ids = await self.database.run(declare_types, declarations, pool=self.pool) if declarations else {}
        self.names = {type_id: name for name, type_id in ids.items()}
        self._announced = {str(type_id) for type_id in self.names}
        self.look_afresh()
        self._version = version

    def handler(self, type_id: int) -> Handler | None:
        """The handler that serves a type now."""
        return self.app.handlers.get(self.names.get(type_id, ""))

    def pickups(self, claimed: Iterable[Claimed]) -> list[tuple[str, float]]:
        """The type of each, and the seconds from when it was due to its claim."""
        return [
            (self.names.get(task.type_id, UNSERVED.declaration.name), (task.claimed_at - task.run_at) / SECOND)
            for task in claimed
        ]

    def open(self, free: int) -> list[Lane]:
        """The lanes that have room, when `free` slots are free."""
        self._forget()
        rooms = {type_id: self._room(type_id, free) for type_id in self._limits if type_id not in self._dry}
        return [Lane(type_id, room, self._lows.get(type_id, LOWEST)) for type_id, room in rooms.items() if room > 0]

    def _room(self, type_id: int, free: int) -> int:
        if self.handler(type_id) is None:
            return 0
        limit = self._limits.get(type_id)
        return free if limit is None else min(free, limit - self.slots.of_type(type_id))

    def limited(self, lanes: Iterable[Lane]) -> dict[int, int]:
        """What a claim in these lanes may add to the types that have a limit."""
        return {lane.type_id: lane.room for lane in lanes if self._limits.get(lane.type_id) is not None}

    def mark(self, claimed: Iterable[Claimed]) -> None:
        """Remember how far each lane has been taken."""
        self._lows.update({task.type_id: task.order_key for task in claimed})

    def run_dry(self, type_ids: Iterable[int]) -> None:
        """These had no more; they are left out until there is something new."""
        self._dry.update(type_ids)

    def look_afresh(self) -> None:
        """There may be something in every lane, also below the marks."""
        self._dry.clear()
        self._lows.clear()

    def announced(self, told: str) -> bool:
        """Whether a notification tells of new work in one of the lanes."""
        return told in self._announced

    def _forget(self) -> None:
        moment = time.monotonic()
        if moment - self._marked_at >= MARKED:
            self._marked_at = moment
            self._lows.clear()
