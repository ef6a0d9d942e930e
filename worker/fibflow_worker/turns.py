"""Turns: what has ended is settled and what is due is claimed, both in one transaction.

On PostgreSQL two turns go on at once, so that the handlers of one batch run while the other batch is in the database.
One of them at a time stands at the door and waits until there is something to do; what it takes, results and room, is out
of the other's reach until it is done.

A turn that fails puts its results back, and they are settled later: an ending that had been stored is recognised then. A
batch that the database refuses is split until the bad result stands alone; that attempt fails. A claim whose answer was
lost may have claimed: `uncertain` asks maintenance to look (maintenance.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fibflow.errors import DatabaseError, InvalidInput, OutcomeUnknown
from fibflow.logs import logger
from fibflow.model import Outcome
from fibflow.store import claim, record, settle
from fibflow.store.claim import Claimed, Lane
from fibflow.store.database import Database
from fibflow.store.enqueue import WAKE_INTERVAL
from fibflow_worker.execution import Result, failed
from fibflow_worker.lanes import Lanes
from fibflow_worker.slots import Slots

log = logger(__name__)

BATCH = 500
"""Attempts that one turn settles, and claims, at the most."""
TURNS = {True: 2, False: 1}
"""Turns at once, on PostgreSQL and not; SQLite has one writer."""


class Lease(Protocol):
    """The right to hold tasks, as a turn sees it."""

    worker_id: int

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
    """What one turn settles, and where it may claim how much."""

    worker_id: int
    batch: Sequence[Result]
    lanes: Sequence[Lane]
    room: int
    limited: dict[int, int]
    claimed: Sequence[Claimed] = field(default=())

    @property
    def reserved(self) -> int:
        return max(self.room, len(self.batch))


class Turns:
    """Settles and claims for one worker; `start` is called with every claimed task."""

    def __init__(self, database: Database, slots: Slots, lanes: Lanes, lease: Lease, start: Callable[[Claimed], None]) -> None:
        self.database, self.slots, self.lanes, self.lease, self.start = database, slots, lanes, lease, start
        self.more = True
        self.uncertain = False
        self.under_way = 0
        self._claiming = False
        self._backlog = False
        self._told = 0
        self._door = asyncio.Lock()
        self._knock = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Take turns until cancelled."""
        await asyncio.gather(*(self._take_turns() for _ in range(TURNS[self.database.postgresql])))

    async def _take_turns(self) -> None:
        while True:
            async with self._door:
                turn = await self._next()
            try:
                await self._take(turn)
            except DatabaseError as error:
                log.warning("database_error", worker_id=turn.worker_id, error=str(error))
                await asyncio.sleep(random.uniform(0.1, 1.0))
                self.knock()  # what the turn put back is there to be settled

    # ── what wakes a turn ─────────────────────────────────────────────────────────────────────────────────────────

    def knock(self) -> None:
        """Something has changed: an attempt ended, a slot is free, the lease is good again."""
        self._knock.set()

    def work_announced(self) -> None:
        """There may be ready tasks. Look now, and once more: a producer announces a type only so often."""
        self._look()
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(2 * WAKE_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self._look()

    def _look(self) -> None:
        self.more = True
        self._told += 1
        self.lanes.unmark()
        self._knock.set()

    # ── the door ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _next(self) -> Turn:
        while (turn := self._possible()) is None:
            self._knock.clear()
            await self._knock.wait()
        self.slots.reserve(turn.reserved, turn.limited)
        self._claiming = self._claiming or bool(turn.lanes)
        self.under_way += 1
        return turn

    def _possible(self) -> Turn | None:
        """What there is to do now, taken from the slots; None if there is nothing."""
        if not self.lease.writes or self.uncertain:
            return None
        batch = self.slots.take_ended(BATCH)
        claims = self.more and self.lease.claims and (bool(batch) or self._backlog or not self._claiming)
        room = min(self.slots.free, BATCH) if claims else 0
        lanes = self.lanes.open(room) if room > 0 else []
        if not batch and not lanes:
            return None
        return Turn(self.lease.worker_id, batch, lanes, room if lanes else 0, self.lanes.limited(lanes))

    # ── a turn ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _take(self, turn: Turn) -> None:
        told, settled = self._told, False
        try:
            turn.claimed = await self._settle_and_claim(turn)
            settled = True
        except OutcomeUnknown:
            self.uncertain = True
            raise
        finally:
            self._leave(turn, settled)
        if turn.lanes:
            self._backlog = len(turn.claimed) >= turn.room
            self.more = self._backlog or self._told != told
        self._begin(turn)
        self._knock.set()

    def _leave(self, turn: Turn, settled: bool) -> None:
        self.under_way -= 1
        self.slots.give_back(turn.reserved, turn.limited)
        self._claiming = self._claiming and not turn.lanes
        if settled or not self.lease.holds(turn.worker_id):
            self.slots.settled(turn.batch)
        else:
            self.slots.put_back(turn.batch)

    def _begin(self, turn: Turn) -> None:
        """Start what was claimed, unless the worker was lost meanwhile: then others have it."""
        if self.lease.holds(turn.worker_id):
            self.lanes.mark(turn.claimed)
            if turn.claimed:
                log.debug("task_claimed", worker_id=turn.worker_id, tasks=[task.id for task in turn.claimed])
            for task in turn.claimed:
                self.start(task)

    async def _settle_and_claim(self, turn: Turn) -> Sequence[Claimed]:
        plain = [result for result in turn.batch if not result.children]
        for result in turn.batch:
            if result.children:
                await self._spawn(turn.worker_id, result)
        if not plain:
            return await self._claim(turn)
        endings = [result.ending for result in plain]
        try:
            if turn.lanes:
                place = (turn.worker_id, endings, turn.lanes, turn.room)
                stale, claimed = await self.database.run(settle.settle_and_claim, *place)
            else:
                stale, claimed = await self.database.run(settle.settle, turn.worker_id, endings), ()
        except DatabaseError as error:
            if type(error) is not DatabaseError:
                raise
            await self._settle_apart(turn.worker_id, plain, error)
            return await self._claim(turn)
        self._tell(plain, stale)
        return claimed

    async def _claim(self, turn: Turn) -> Sequence[Claimed]:
        if not turn.lanes:
            return ()
        return await self.database.run(claim.claim, turn.worker_id, turn.lanes, turn.room)

    async def _settle_apart(self, worker_id: int, batch: Sequence[Result], error: Exception) -> None:
        """Settle halves of a batch that was refused, and fail the attempt whose result is refused alone."""
        if len(batch) == 1:
            await self._fail(worker_id, batch[0], error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            try:
                self._tell(half, await self.database.run(settle.settle, worker_id, [result.ending for result in half]))
            except DatabaseError as refusal:
                if type(refusal) is not DatabaseError:
                    raise
                await self._settle_apart(worker_id, half, refusal)

    async def _spawn(self, worker_id: int, result: Result) -> None:
        try:
            stale = await self.database.run(record.spawn, worker_id, result.ending, result.children)
        except InvalidInput as error:
            await self._fail(worker_id, result, error)
        else:
            self._tell([result], stale)

    async def _fail(self, worker_id: int, result: Result, error: Exception) -> None:
        """The attempt's result cannot be stored: it fails without a retry, and says why."""
        refused = failed(result.attempt, InvalidInput("result", result.attempt.context.name, f"cannot be stored: {error}"))
        self._tell([refused], await self.database.run(settle.settle, worker_id, [refused.ending]))

    # ── what is told of it ────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, batch: Sequence[Result], stale: Sequence[Exception]) -> None:
        for refusal in stale:
            log.info("task_stale_write_rejected", reason=str(refusal))
        everything = log.isEnabledFor(logging.DEBUG)
        for result in batch:
            if everything or result.ending.outcome is not Outcome.COMPLETED:
                _log_ending(result)


def _log_ending(result: Result) -> None:
    ending = result.ending
    told = log.info if ending.error is not None else log.debug
    told(
        f"task_{ending.outcome}",
        task_id=ending.task_id,
        attempt=ending.fence,
        type=result.attempt.context.name,
        became=str(ending.next.status),
        error=None if ending.error is None else ending.error.strip().rsplit("\n", 1)[-1],
    )
