"""The worker: it registers, claims into its free slots, runs handlers, settles, and drains.

    init ──run──▶ running ──stop──▶ draining ──▶ stopped

Here its parts are put together, and its life is told from the start to the end. registration.py holds the right to work,
turns.py settles and claims, attempts.py runs handlers, maintenance.py does what any worker does for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum

from fibflow.app import App
from fibflow.errors import FibflowError
from fibflow.store.database import Database
from fibflow.store.notices import CHANNEL, overhear
from fibflow_worker.attempts import Attempts
from fibflow_worker.heartbeat import Heartbeat
from fibflow_worker.lanes import Lanes
from fibflow_worker.maintenance import Maintenance
from fibflow_worker.observed import Observed
from fibflow_worker.registration import Registration
from fibflow_worker.settings import Settings
from fibflow_worker.slots import Slots
from fibflow_worker.tallies import Tallies
from fibflow_worker.turns import LOCK_WAIT, Turns

__all__ = ["Settings", "State", "Worker"]


class State(StrEnum):
    INIT = "init"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class Worker:
    """One process that serves an App's task types from a database.

    It works over connections of its own, whose limits follow from its lease; its heartbeat has others. Those of the database
    that it was given are not used, and stay open.
    """

    def __init__(self, app: App, database: Database, settings: Settings | None = None) -> None:
        self.app, self.database, self.settings = app, database, settings or Settings()
        self.state = State.INIT
        self.turned_at = time.monotonic()
        self.paused = False
        self._own = own = database.apart(patience=self.settings.patience, lock_wait=LOCK_WAIT)
        self._slots = Slots(self.settings.slots)
        self.tallies = Tallies(app.handlers)
        self.observed = Observed(self, self._slots)
        self._lanes = Lanes(app, own, self._slots, self.settings)
        self._attempts = Attempts(own, self._slots, self._lanes, lambda: self._turns.knock())
        self._turns = Turns(own, self._slots, self._lanes, self, self._attempts.start, self.tallies)
        self._registration = Registration(own, self.settings, self._attempts, self._turns, self._handlers)
        self._maintenance = Maintenance(own, self.settings, self._slots, self._lanes, self._turns, self, self._attempts.stop)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    # ── what it may do ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def worker_id(self) -> int:
        """The id of its registration."""
        return self._registration.worker_id

    @property
    def lost(self) -> bool:
        """Whether others have taken over, and it has not come back yet."""
        return self._registration.lost

    @property
    def heart(self) -> Heartbeat | None:
        """What renews the lease; None before it has registered."""
        return self._registration.heartbeat

    @property
    def writes(self) -> bool:
        """Whether it may still believe that it owns what it runs."""
        return self._registration.writes

    def holds(self, worker_id: int) -> bool:
        """Whether it still works under this id."""
        return self._registration.holds(worker_id)

    @property
    def claims(self) -> bool:
        """Whether it takes tasks now."""
        return self.writes and self.state is State.RUNNING and not self.paused and not self._registration.paused

    def _handlers(self) -> list[str]:
        return list(self._lanes.served)

    @property
    def lease_age(self) -> float:
        """Seconds since the last good renewal was sent."""
        return self._registration.age

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Work until `stop` is called; then drain. Raises FibflowError when it cannot start."""
        if self.state is not State.INIT:
            raise FibflowError(f"a worker that is {self.state} cannot be started; make a new one")
        try:
            await self._work()
        finally:
            await self._disconnect()

    async def _work(self) -> None:
        await self._lanes.refresh()
        await self._registration.register()
        self.state = State.RUNNING
        loops = [*self._turns.loops(), *self._maintenance.loops(), self._registration.come_back()]
        loops += [self._told_to_stop(), self._turn()]
        if self._own.postgresql:
            from fibflow.store.listen import Listener  # the driver need not be there where SQLite is used

            loops.append(Listener(self._own, CHANNEL, self._heard).run())
        else:
            loops.append(overhear(self._own.wakes, self._heard))
        self._loops = [asyncio.create_task(loop) for loop in loops]
        try:
            await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._drain()
        for loop in self._loops:
            if not loop.cancelled() and (fault := loop.exception()) is not None:
                raise fault

    async def _told_to_stop(self) -> None:
        await self._stopping.wait()

    async def _turn(self) -> None:
        """Note that the event loop turns, for whoever asks how it goes."""
        while True:
            self.turned_at = time.monotonic()
            await asyncio.sleep(1)

    def _heard(self, told: str) -> None:
        """A notification: a task type with new work, or a worker that lost an attempt; "" after every connect."""
        if not told or self._lanes.announced(told):
            self._turns.work_announced()
        if not told or told == f"w{self.worker_id}":
            self._maintenance.nudge()

    def stop(self) -> None:
        """Stop claiming and let what runs finish within the drain time; asked again, do not wait for it."""
        if self._stopping.is_set():
            self._hurry.set()
        if self.state is State.RUNNING:
            self.state = State.DRAINING
        self._stopping.set()

    def pause(self) -> None:
        """Claim nothing until resumed; what runs goes on."""
        self.paused = True

    def resume(self) -> None:
        """Claim again after a pause."""
        self.paused = False
        if self.state is State.RUNNING:
            self._turns.work_announced()

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _drain(self) -> None:
        """Let what runs finish, interrupt what does not, settle it all, and give the lease up."""
        self.state = State.DRAINING
        await self._until(lambda: not self._turns.under_way)
        await self._finish()
        self._attempts.interrupt()
        await self._until(lambda: not (self._slots.unsettled or self._turns.under_way or self._maintenance.looking))
        await self._end_loops()
        self._attempts.deadlines.stop()
        await self._registration.give_up()
        await self._attempts.close()
        self.state = State.STOPPED

    async def _end_loops(self) -> None:
        """Cancel the loops until they have ended, should one lose a cancellation to something else that happened then."""
        left = set(self._loops)
        while left:
            for loop in left:
                loop.cancel()
            _, left = await asyncio.wait(left, timeout=1)

    async def _finish(self) -> None:
        """Tell the handlers of the drain, and wait for them: until all have ended, the time is up, or somebody hurries."""
        self._attempts.tell_handlers("drain")
        self._attempts.idle.clear()
        if self._slots.running:
            waits = [asyncio.create_task(event.wait()) for event in (self._attempts.idle, self._hurry)]
            await asyncio.wait(waits, timeout=self.settings.drain, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _until(self, done: Callable[[], bool]) -> None:
        """Let the turns do what is left, as long as the database lets them."""
        deadline = time.monotonic() + FLUSH
        self._turns.knock()
        while not done() and self.writes and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    async def _disconnect(self) -> None:
        for connections in {self._own, self._registration.beating} - {self.database}:  # in memory there are no others
            await connections.aclose()


FLUSH = 10.0
"""Seconds that a draining worker gives a database that does not answer."""
