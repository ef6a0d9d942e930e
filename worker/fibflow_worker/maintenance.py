"""Maintenance: what any worker does for all, between its tasks. Each act is bounded and may be done by anybody.

A look at the database once a poll interval tells what is due: scheduled tasks to promote, cron ticks to decide, leases
that ran out. It also finds attempts here that others have ended, whose handlers must stop, and attempts that this worker
claimed without hearing of it. Old history goes by retention.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from fibflow.errors import DatabaseError
from fibflow.logs import logger
from fibflow.model import SECOND
from fibflow.store import deciding, leases, polling, retention
from fibflow.store.database import Database
from fibflow.store.ending import Key
from fibflow_worker.lanes import Lanes
from fibflow_worker.settings import Settings
from fibflow_worker.slots import Slots
from fibflow_worker.turns import Lease, Turns

log = logger(__name__)

AT_ONCE = 0.001
"""Seconds until the next look while something was due: there may be more of it."""
BUSY_POLL = 0.05
"""Seconds between two looks of a busy worker that nobody can tell of work (SQLite)."""


class Maintenance:
    """The polls of one worker; `stop` is called with an attempt that others ended, and why."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        slots: Slots,
        lanes: Lanes,
        turns: Turns,
        lease: Lease,
        stop: Callable[[Key, str], None],
    ) -> None:
        self.database, self.settings, self.slots = database, settings, slots
        self.lanes, self.turns, self.lease, self.stop = lanes, turns, lease, stop
        self.looking = False
        self._nudge = asyncio.Event()

    def nudge(self) -> None:
        """Look now: an attempt of this worker may have been ended."""
        self._nudge.set()

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What polls, and what prunes, until they are cancelled."""
        kept_for_ever = self.settings.retention_age is None
        return [self._poll()] if kept_for_ever else [self._poll(), self._prune()]

    async def _poll(self) -> None:
        while True:
            self._nudge.clear()
            self.looking = True
            due_in = await surviving(self._look()) or self.settings.poll_interval
            self.looking = False
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause(due_in)):  # wait_for may lose a cancellation to a nudge
                    await self._nudge.wait()

    def _pause(self, due_in: float) -> float:
        busy = bool(self.slots.running) and not self.database.postgresql
        interval = min(self.settings.poll_interval, BUSY_POLL) if busy else self.settings.poll_interval
        return max(min(interval * random.uniform(0.9, 1.1), due_in), AT_ONCE)

    async def _look(self) -> float:
        """Do what is due; seconds until the next of it."""
        await self.lanes.refresh()
        if not self.lease.writes:
            return self.settings.poll_interval
        seen = await self.database.run(polling.poll, self.lanes.own)
        if seen.expired:
            await surviving(self._reap())
        promoted = await surviving(self.database.run(polling.promote)) if seen.promote else 0
        decided = await surviving(self.database.run(deciding.decide_ticks)) if seen.tick else 0
        if seen.ready or promoted or decided:
            self.turns.work_announced()
        await self._compare()
        if promoted or decided:
            return AT_ONCE
        held_by_others = seen.promote or seen.tick
        return self.settings.poll_interval if held_by_others else seen.due_in / SECOND

    async def _reap(self) -> None:
        recover = self.settings.recover_running_tasks
        for lost in await self.database.run(leases.reap, self.lease.worker_id, recover=recover):
            log.info("worker_reaped", worker_id=lost, by=self.lease.worker_id)

    # ── what the database says that this worker runs ──────────────────────────────────────────────────────────────

    async def _compare(self) -> None:
        before = set(self.slots.running)
        uncertain = self.turns.uncertain and self.turns.under_way == 0
        if not before and not uncertain:
            return
        owned = await self.database.run(polling.owned, self.lease.worker_id)
        await self._stop_taken(before - owned)
        if uncertain:
            await self._start_unheard(owned - self.slots.known())

    async def _stop_taken(self, keys: set[Key]) -> None:
        gone = keys & set(self.slots.running)
        if gone:
            for key, reason in (await self.database.run(polling.why_taken, gone)).items():
                self.stop(key, reason)

    async def _start_unheard(self, keys: set[Key]) -> None:
        """A claim's answer was lost: run what it took, unless the worker was lost meanwhile: then others have it."""
        worker_id = self.lease.worker_id
        unheard = await self.database.run(polling.claims_of, worker_id, keys) if keys else []
        if self.lease.holds(worker_id):
            self.turns.start(unheard)
        self.turns.uncertain = False
        self.turns.knock()

    # ── retention ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _prune(self) -> None:
        while True:
            await asyncio.sleep(self.settings.retention_interval * random.uniform(0.9, 1.1))
            age = self.settings.retention_age
            await surviving(self._prune_all(None if age == "usual" else age))

    async def _prune_all(self, age: float | None) -> None:
        started = time.monotonic()
        more = True
        while more:
            pruned = await self.database.run(retention.prune, age=age, statuses=self.settings.retention_statuses)
            more = pruned.more
            if pruned.tasks:
                log.info("pruned", workflows=pruned.workflows, tasks=pruned.tasks, seconds=round(time.monotonic() - started, 3))
            await asyncio.sleep(BREATH)


BREATH = 0.01
"""Seconds between two batches of pruning, for claims that wait."""


async def surviving(step: Coroutine[Any, Any, float | None]) -> float | None:
    """What a step of a loop returns; None when it failed, which is told and not fatal: the other steps go on."""
    try:
        return await step
    except DatabaseError as error:
        log.warning("database_error", error=str(error))
    except Exception:
        log.exception("maintenance_failed")
    return None
