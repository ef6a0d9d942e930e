"""Turns: what has ended is settled and what is due is claimed, both in one transaction.

On PostgreSQL two turns go on at once, so that the handlers of one batch run while the other batch is in the database.
One of them at a time stands at the door and waits until there is something to do; it reserves the results and the room
that it takes, so that the other does not see them, until it is done.

What others' locks keep from being settled is tried again in turns of its own, beside them, so that nothing else waits for
it.

A turn that the database fails waits a moment and puts back what it could not settle; an ending that had been stored is
recognised then. How results are settled, refused ones too, is the story of settling.py. A claim whose answer was lost may
have claimed: `uncertain` asks maintenance to look (maintenance.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fibflow.errors import DatabaseError, OutcomeUnknown
from fibflow.logs import logger
from fibflow.metrics import histogram
from fibflow.store.claim import Claimed, Lane
from fibflow.store.database import Database
from fibflow.store.notices import WAKE_INTERVAL
from fibflow_worker.execution import Result
from fibflow_worker.lanes import Lanes
from fibflow_worker.settling import Settling
from fibflow_worker.slots import Slots
from fibflow_worker.tallies import Tallies

log = logger(__name__)

BATCH = 500
"""Attempts that one turn settles, and claims, at the most."""
LOOK_AGAIN = 1.4 * WAKE_INTERVAL
"""Seconds after an announcement: what was left unannounced since is committed, and the next has hardly begun."""
TURN = histogram(
    "fibflow_turn_duration_seconds",
    "What one turn took: results settled and tasks claimed, in a transaction.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
TURNS = {True: 2, False: 1}
"""Turns at once, on PostgreSQL and not; SQLite has one writer."""
LOCK_WAIT = 0.5
"""Seconds that a turn waits for a lock of others before it settles what needs none."""


class Lease(Protocol):
    """The right to hold tasks, as a turn sees it."""

    @property
    def worker_id(self) -> int:
        """Under which it holds them now."""

    @property
    def writes(self) -> bool:
        """Whether this worker may still believe that it owns what it runs."""

    @property
    def claims(self) -> bool:
        """Whether it may take more."""

    def holds(self, worker_id: int) -> bool:
        """Whether it still works under this id: it was not lost, and has not come back under another."""


@dataclass(slots=True)
class Turn:
    """What one turn settles, and where it may claim how much; then, what came of it."""

    worker_id: int
    batch: Sequence[Result]
    lanes: Sequence[Lane]
    room: int
    limited: dict[int, int]
    left: list[Result] = field(default_factory=list)
    claimed: Sequence[Claimed] = ()

    @property
    def reserved(self) -> int:
        return max(self.room, len(self.batch))


class Turns:
    """Settles and claims for one worker; `start` is called with every claimed task."""

    def __init__(
        self,
        database: Database,
        slots: Slots,
        lanes: Lanes,
        lease: Lease,
        start: Callable[[Claimed], None],
        tallies: Tallies,
    ) -> None:
        self.database, self.slots, self.lanes, self.lease = database, slots, lanes, lease
        self.uncertain = False
        self.under_way = 0
        self._start, self._tallies = start, tallies
        self._settling = Settling(database, tallies)
        self._claiming = False
        self._backlog = False
        self._told = 0
        self._door = asyncio.Lock()
        self._knock = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._blocked = asyncio.Event()

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What takes turns until it is cancelled."""
        return [*(self._take_turns() for _ in range(TURNS[self.database.postgresql])), self._try_blocked()]

    async def _take_turns(self) -> None:
        while True:
            async with self._door:
                turn = await self._next()
            try:
                await self._take(turn)
            finally:
                self._leave(turn)

    async def _try_blocked(self) -> None:
        """Try again what others held, as long as they do."""
        while True:
            await self._blocked.wait()
            await asyncio.sleep(random.uniform(0.1, 1.0))
            self._blocked.clear()
            turn = self._enter(self._of_blocked())
            try:
                await self._take(turn)
            finally:
                self._leave(turn)

    def _of_blocked(self) -> Turn:
        batch = self.slots.take_blocked() if self.lease.writes and not self.uncertain else []
        return Turn(self.lease.worker_id, batch, (), 0, {}, list(batch))

    # ── what wakes a turn ─────────────────────────────────────────────────────────────────────────────────────────

    def knock(self) -> None:
        """Something has changed: an attempt ended, a slot is free, the lease is good again."""
        self._knock.set()

    def work_announced(self) -> None:
        """There may be ready tasks. Look now, and once more: a producer announces a type only so often."""
        self._look()
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._look()

    def _look(self) -> None:
        self._told += 1
        self.lanes.look_afresh()
        self._knock.set()

    # ── the door ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _next(self) -> Turn:
        while (turn := self._possible()) is None:
            self._knock.clear()
            await self._knock.wait()
        return self._enter(turn)

    def _enter(self, turn: Turn) -> Turn:
        self.slots.reserve(turn.reserved, turn.limited)
        self._claiming = self._claiming or bool(turn.lanes)
        self.under_way += 1
        return turn

    def _possible(self) -> Turn | None:
        """What there is to do now, taken from the slots; None if there is nothing."""
        if not self.lease.writes or self.uncertain:
            return None
        batch = self.slots.take_ended(BATCH)
        claims = self.lease.claims and (bool(batch) or self._backlog or not self._claiming)
        room = min(self.slots.free, BATCH) if claims else 0
        lanes = self.lanes.open(room) if room > 0 else []
        if not batch and not lanes:
            return None
        return Turn(self.lease.worker_id, batch, lanes, room if lanes else 0, self.lanes.limited(lanes), list(batch))

    # ── a turn ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _take(self, turn: Turn) -> None:
        told, trouble = self._told, None
        try:
            with TURN.time():
                trouble = await self._settle_and_claim(turn)
            self._learn(turn, news=self._told != told)
            self._begin(turn)
        except DatabaseError as error:
            trouble = error
        if trouble is not None:
            self.uncertain = self.uncertain or isinstance(trouble, OutcomeUnknown)
            log.warning("database_error", worker_id=turn.worker_id, error=str(trouble))
            await asyncio.sleep(random.uniform(0.1, 1.0))

    async def _settle_and_claim(self, turn: Turn) -> DatabaseError | None:
        """Settle what can be, and claim; the trouble with a spawn that must be tried again.

        Children are of the types, and have the options, that the application says now.
        """
        if any(result.children for result in turn.left):
            await self.lanes.refresh()
        trouble = await self._settling.spawns(turn.worker_id, turn.left)
        place = (turn.lanes, turn.room) if turn.lanes else None
        turn.claimed = await self._settling.others(turn.worker_id, turn.left, place)
        return trouble

    def _learn(self, turn: Turn, news: bool) -> None:
        """How far each lane was taken, and which have no more; not with `news` meanwhile, which the claim has not seen."""
        self._backlog = len(turn.claimed) >= turn.room if turn.lanes else self._backlog
        if news or not turn.lanes:
            return
        self.lanes.mark(turn.claimed)
        if not self._backlog:
            got = Counter(task.type_id for task in turn.claimed)
            self.lanes.run_dry(lane.type_id for lane in turn.lanes if got[lane.type_id] < lane.room)

    def _begin(self, turn: Turn) -> None:
        """Start what was claimed, unless the worker was lost meanwhile: then others have it."""
        if turn.claimed and self.lease.holds(turn.worker_id):
            self.start(turn.claimed)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("task_claimed", worker_id=turn.worker_id, tasks=[task.id for task in turn.claimed])

    def start(self, claimed: Sequence[Claimed]) -> None:
        """Run what was claimed, and count it."""
        for task in claimed:
            self._start(task)
        self._tallies.claimed(self.lanes.pickups(claimed))

    def _leave(self, turn: Turn) -> None:
        """Give back what was reserved, and what was not settled, unless the worker was lost meanwhile."""
        self.under_way -= 1
        self.slots.give_back(turn.reserved, turn.limited)
        self._claiming = self._claiming and not turn.lanes
        if turn.left and self.lease.holds(turn.worker_id):
            self.slots.put_back(turn.left)
            left = {id(result) for result in turn.left}
            self.slots.settled(result for result in turn.batch if id(result) not in left)
        else:
            self.slots.settled(turn.batch)
        if self.slots.blocked:
            self._blocked.set()
        self._knock.set()
