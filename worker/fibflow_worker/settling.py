"""Settling: the results of handlers become endings in the database, whatever is the matter with them.

A batch that the database refuses is split until the bad result stands alone; that attempt fails, and says why. A batch that
waits for others' locks is given up soon: what waits for nobody is settled, the rest is blocked, and tried again apart. A
spawn is a transaction of its own.

What is settled, or refused as stale, is taken out of the list that it came in; what is left there is blocked, or, when the
database is away, to be tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fibflow.errors import DatabaseError, InvalidInput, LeaseLost, UnknownTaskType, gist
from fibflow.logs import logger
from fibflow.model import EventType, Outcome, Status
from fibflow.store import claim, record, settle
from fibflow.store.claim import Claimed, Lane
from fibflow.store.database import Database
from fibflow.store.repeats import Transient
from fibflow_worker.execution import Result, failed
from fibflow_worker.tallies import Tallies

log = logger(__name__)

Place = tuple[Sequence[Lane], int]
"""Where to claim, and how much at the most."""


class Settling:
    """Settles the results of one worker."""

    def __init__(self, database: Database, tallies: Tallies) -> None:
        self.database, self.tallies = database, tallies

    async def spawns(self, worker_id: int, left: list[Result]) -> DatabaseError | None:
        """Settle the results that create children; the trouble with the last of those that are left."""
        trouble = None
        for result in [result for result in left if result.children]:
            try:
                await self._spawn(worker_id, result)
            except DatabaseError as error:
                trouble = error
            except Transient:
                result.blocked = True
            else:
                left.remove(result)
        return trouble

    async def _spawn(self, worker_id: int, result: Result) -> None:
        """Raises DatabaseError when it may succeed later, Transient when others hold its task."""
        try:
            stale = await self.database.once(record.spawn, worker_id, result.ending, result.children)
        except DatabaseError as error:
            if not _refused(error):
                raise
            await self._fail(worker_id, result, error)
        except Transient:
            raise
        except Exception as error:  # whatever children a handler made up, they fail its attempt and nothing else
            await self._fail(worker_id, result, error)
        else:
            self._tell([result], stale)

    async def others(self, worker_id: int, left: list[Result], place: Place | None) -> Sequence[Claimed]:
        """Settle the results without children, and claim in the same transaction; what was claimed. Raises DatabaseError."""
        batch = [result for result in left if not result.children]
        if not batch:
            return await self._claim(worker_id, place)
        try:
            stale, claimed = await self._settle_and_claim(worker_id, batch, place)
        except DatabaseError as error:
            if not _refused(error):
                raise
            await self._settle_apart(worker_id, batch)
            _take_out_settled(left)
            return await self._claim(worker_id, place)
        self._tell([result for result in batch if not result.blocked], stale)
        _take_out_settled(left)
        return claimed

    async def _settle_and_claim(
        self, worker_id: int, batch: Sequence[Result], place: Place | None
    ) -> tuple[list[LeaseLost], Sequence[Claimed]]:
        endings = [result.ending for result in batch]
        try:
            if place is None:
                return await self.database.once(settle.settle, worker_id, endings), ()
            return await self.database.once(settle.settle_and_claim, worker_id, endings, *place)
        except Transient:
            return await self._settle_unheld(worker_id, batch), await self._claim(worker_id, place)

    async def _settle_unheld(self, worker_id: int, batch: Sequence[Result]) -> list[LeaseLost]:
        """Settle what waits for nobody, and mark what is blocked."""
        stale, held = await self.database.run(settle.settle_unheld, worker_id, [result.ending for result in batch])
        for result in batch:
            result.blocked = result.ending.key in held
        if held:
            log.info("settle_blocked", worker_id=worker_id, tasks=sorted(task_id for task_id, _ in held))
        return stale

    async def _claim(self, worker_id: int, place: Place | None) -> Sequence[Claimed]:
        return () if place is None else await self.database.run(claim.claim, worker_id, *place)

    async def _settle_apart(self, worker_id: int, batch: Sequence[Result]) -> None:
        """Settle a batch that was refused together with a claim, or with others: whole, then in halves, then alone."""
        try:
            stale = await self.database.run(settle.settle, worker_id, [result.ending for result in batch])
        except DatabaseError as error:
            if not _refused(error):
                raise
            if len(batch) == 1:
                await self._fail(worker_id, batch[0], error)
                return
            middle = len(batch) // 2
            await self._settle_apart(worker_id, batch[:middle])
            await self._settle_apart(worker_id, batch[middle:])
        else:
            self._tell(batch, stale)

    async def _fail(self, worker_id: int, result: Result, error: Exception) -> None:
        """The attempt's result cannot be stored: it fails without a retry, and says why."""
        if not isinstance(error, InvalidInput | UnknownTaskType):
            error = InvalidInput("result", result.attempt.context.name, f"cannot be stored: {error}")
        refused = failed(result.attempt, error)
        self._tell([refused], await self.database.run(settle.settle, worker_id, [refused.ending]))

    # ── what is told of it ────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, batch: Sequence[Result], stale: Sequence[LeaseLost]) -> None:
        for refusal in stale:
            log.info(EventType.STALE_WRITE_REJECTED, reason=str(refusal))
        lost = {(refusal.task_id, refusal.fence) for refusal in stale}
        everything = log.isEnabledFor(logging.DEBUG)
        completed = []
        for result in batch:
            done = result.ending.outcome is Outcome.COMPLETED
            if not (lost and result.ending.key in lost):
                completed.append((result.attempt.context.name, result.seconds)) if done else self._count(result)
            if everything or not done:
                _tell_of(result)
        self.tallies.completed(completed)

    def _count(self, result: Result) -> None:
        ending = result.ending
        failed = ending.outcome in FAILED
        self.tallies.ended(
            result.attempt.context.name,
            ending.outcome,
            result.seconds,
            again=failed and ending.next.status is Status.PENDING,
            for_good=ending.next.status is Status.PERMANENTLY_FAILED,
        )


FAILED = frozenset({Outcome.FAILED, Outcome.TIMEOUT})


def _take_out_settled(left: list[Result]) -> None:
    left[:] = [result for result in left if result.children or result.blocked]


def _refused(error: DatabaseError) -> bool:
    """Whether the database answered, and said no; its subclasses are times when it did not answer so."""
    return type(error) is DatabaseError


def _tell_of(result: Result) -> None:
    ending = result.ending
    told = log.info if ending.error is not None else log.debug
    told(
        EVENTS.get(ending.outcome, EventType.STATUS_CHANGED),
        task_id=ending.task_id,
        attempt=ending.fence,
        type=result.attempt.context.name,
        became=str(ending.next.status),
        error=None if ending.error is None else gist(ending.error),
    )


EVENTS = {
    Outcome.COMPLETED: EventType.COMPLETED,
    Outcome.FAILED: EventType.FAILED,
    Outcome.TIMEOUT: EventType.TIMED_OUT,
    Outcome.SUSPENDED: EventType.SUSPENDED,
}
