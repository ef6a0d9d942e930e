"""The worker: it registers, claims into its free slots, runs handlers, settles, and drains.

    init ──run──▶ running ──stop──▶ draining ──▶ stopped

Its parts: turns.py settles and claims, maintenance.py does what any worker does for all, heartbeat.py holds the lease, and
here attempts begin and end. A worker that was reaped or superseded cancels what it runs, writes nothing more under its
old id, and registers anew as soon as no other worker of its pod is active.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import Any

from fibflow import encoding
from fibflow.app import LOOP, PROCESS, THREAD, App, Handler
from fibflow.context import AsyncContext, Context
from fibflow.errors import DatabaseError, FibflowError, LeaseLost, WorkerLost
from fibflow.logs import logger
from fibflow.metrics import LINGERING
from fibflow.model import DEFAULT_MAX_ATTEMPTS, DEFAULT_TIMEOUT, SECOND, Json
from fibflow.store import leases, reading, record
from fibflow.store.claim import Claimed
from fibflow.store.database import Database
from fibflow.store.ending import Key
from fibflow.store.enqueue import CHANNEL
from fibflow.store.listen import Listener
from fibflow.store.notes import Note
from fibflow.store.tasktypes import Declaration
from fibflow_worker.deadlines import Deadlines
from fibflow_worker.execution import Attempt, Places, execute, failed, interrupted, timed_out
from fibflow_worker.heartbeat import Heartbeat
from fibflow_worker.lanes import Lanes
from fibflow_worker.maintenance import Maintenance
from fibflow_worker.processes import Processes
from fibflow_worker.settings import Settings
from fibflow_worker.slots import Slots
from fibflow_worker.turns import Turns

__all__ = ["Settings", "State", "Worker"]

log = logger(__name__)


class State(StrEnum):
    INIT = "init"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class Worker:
    """One process that serves an App's task types from a database."""

    def __init__(self, app: App, database: Database, settings: Settings | None = None) -> None:
        self.app, self.database, self.settings = app, database, settings or Settings()
        self.state = State.INIT
        self.worker_id = 0
        self.turned_at = time.monotonic()
        self._began = time.time_ns() // 1000
        self.paused = False
        self._paused_from_outside = False
        self._slots = Slots(self.settings.slots)
        self._lanes = Lanes(app, database, self._slots, self.settings.pool)
        self._turns = Turns(database, self._slots, self._lanes, self, self._start)
        self._maintenance = Maintenance(
            database, self.settings, self._slots, self._lanes, self._turns, self, self._stop_attempt
        )
        self._deadlines = Deadlines(self._slots.running.values, self._time_out)
        threads = ThreadPoolExecutor(self.settings.slots, thread_name_prefix="handler")
        self._places = Places(threads, Processes(self.settings.slots), self._tell_async)
        self._heartbeat: Heartbeat | None = None
        self._lost = False
        self._came_lost = asyncio.Event()
        self._out_of_touch: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Work until `stop` is called; then drain. Raises FibflowError when it cannot start."""
        if self.state is not State.INIT:
            raise FibflowError(f"a worker that is {self.state} cannot be started; make a new one")
        await self._lanes.refresh()
        await self._register()
        self.state = State.RUNNING
        loops = [*self._turns.loops(), *self._maintenance.loops(), self._come_back(), self._told_to_stop(), self._turn()]
        if self.database.postgresql:
            loops.append(Listener(self.database.url, CHANNEL, self._heard).run())
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

    @property
    def lost(self) -> bool:
        """Whether others have taken over, and it has not come back yet."""
        return self._lost

    @property
    def heart(self) -> Heartbeat | None:
        """What renews the lease; None before it has registered."""
        return self._heartbeat

    @property
    def writes(self) -> bool:
        """Whether it may still believe that it owns what it runs: not lost, and renewed in time."""
        beats = self._heartbeat
        return not self._lost and (beats is None or not self.settings.own_deadline or time.monotonic() < beats.valid_until)

    def holds(self, worker_id: int) -> bool:
        """Whether it still works under this id."""
        return worker_id == self.worker_id and not self._lost

    @property
    def claims(self) -> bool:
        """Whether it takes tasks now."""
        return self.writes and self.state is State.RUNNING and not self.paused and not self._paused_from_outside

    def _heard(self, told: str) -> None:
        """A notification: a task type with new work, or a worker that lost an attempt; "" after every connect."""
        if not told or self._lanes.announced(told):
            self._turns.work_announced()
        if not told or told == f"w{self.worker_id}":
            self._maintenance.nudge()

    # ── the lease ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _register(self, *, supersede: bool = True) -> None:
        sent = time.monotonic()
        self.worker_id = await self.database.run(
            leases.register,
            pod_id=self.settings.pod_id,
            host=os.environ.get("FIBFLOW_NODE") or socket.gethostname(),
            pid=os.getpid(),
            slots=self.settings.slots,
            lease=self.settings.lease,
            recover=self.settings.recover_running_tasks,
            supersede=supersede,
            origin=self._origin(),
        )
        self._lost = False
        self._tell_now = partial(self._tell, self.worker_id)
        self._tell_soon = partial(self._tell_async, self.worker_id)
        self._beat(sent)
        log.info("worker_registered", worker_id=self.worker_id, pod_id=self.settings.pod_id)

    def _origin(self) -> leases.Origin:
        settings = self.settings
        handlers = tuple(handler.declaration.name for handler in self.app.handlers.values())
        return leases.Origin(settings.pod_uid, settings.pool, self._began, settings.heartbeat_interval, handlers)

    def _beat(self, sent: float) -> None:
        """Start the heartbeat of this registration, which was sent at `sent` (monotonic)."""
        loop = asyncio.get_running_loop()
        self._heartbeat = Heartbeat(
            self.database,
            self.worker_id,
            self.settings,
            sent,
            earliest=lambda: self._deadlines.earliest,
            beaten=lambda paused: _soon(loop, self._beaten, paused),
            lost=lambda: _soon(loop, self._lose),
        )
        self._watch_lease()
        self._heartbeat.start()

    def _beaten(self, paused: bool) -> None:
        """The lease was renewed."""
        self._paused_from_outside = paused
        self._tell_handlers(None, unless="drain")
        self._watch_lease()
        self._turns.knock()

    def _watch_lease(self) -> None:
        """Tell the handlers when the lease could not be renewed in time."""
        if self._out_of_touch is not None:
            self._out_of_touch.cancel()
        if self.settings.own_deadline and self._heartbeat is not None:
            late = max(self._heartbeat.valid_until - time.monotonic(), 0)
            self._out_of_touch = asyncio.get_running_loop().call_later(late, self._tell_handlers, "out_of_touch")

    def _tell_handlers(self, reason: str | None, *, unless: str | None = None) -> None:
        """Tell the handlers why they should stop, or, with None, that they need not any more."""
        for attempt in self._slots.running.values():
            if attempt.context.cancelled == reason or (unless is not None and attempt.context.cancelled == unless):
                continue
            attempt.context.cancelled = reason
            if attempt.handler.run_in == PROCESS and reason is not None:
                self._places.processes.cancel(attempt.key, reason)

    def _lose(self) -> None:
        """Another took over: nothing of what runs here may be written any more."""
        log.info("worker_lost", worker_id=self.worker_id)
        self._lost = True
        for attempt in self._slots.clear():
            self._end_handler(attempt, "lease_lost")
        self._came_lost.set()

    async def _come_back(self) -> None:
        """After every loss, register anew as soon as no other worker of this pod is active."""
        while True:
            await self._came_lost.wait()
            self._came_lost.clear()
            while self._lost:
                try:
                    await self._register(supersede=False)
                except (WorkerLost, DatabaseError):
                    await asyncio.sleep(self.settings.poll_interval)
            self._turns.work_announced()

    # ── attempts ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, task: Claimed) -> None:
        handler = self._lanes.handler(task.type_id) or UNSERVED
        context = self._context(task, handler.declaration.name, handler.run_in)
        deadline = context.started + context.timeout
        attempt = Attempt((task.id, task.attempt), self.worker_id, task.type_id, handler, context, task, deadline)
        self._slots.fill(attempt)
        if handler is UNSERVED:
            self._slots.end(attempt, interrupted(attempt, "released: its handler was removed"))
            return
        self._deadlines.watch(attempt)
        attempt.task = asyncio.create_task(self._run(attempt))

    def _context(self, task: Claimed, name: str, run_in: str) -> AsyncContext | Context:
        given = (
            task.id,
            name,
            encoding.decode(task.payload),
            task.stage,
            task.attempt,
            task.priority,
            task.tag,
            task.context,
            (),
            task.parent_id,
            task.root_id or task.id,
            task.failures,
            task.max_attempts or DEFAULT_MAX_ATTEMPTS,
            DEFAULT_TIMEOUT if task.timeout is None else task.timeout / SECOND,
            task.created_at,
            time.monotonic(),
        )
        return AsyncContext(*given, tell=self._tell_soon) if run_in == LOOP else Context(*given, tell=self._tell_now)

    async def _run(self, attempt: Attempt) -> None:
        try:
            if attempt.context.stage:
                await self._recall(attempt)
            result = interrupted(attempt, "released") if attempt.over else await execute(attempt, self._places)
        except DatabaseError as error:
            result = interrupted(attempt, f"released: its children could not be read: {error}")
        except Exception as error:  # a fault of ours fails the attempt, not the worker
            log.exception("attempt_failed", task_id=attempt.context.id)
            result = failed(attempt, RuntimeError(f"the worker could not run it: {error}"))
        self._slots.end(attempt, result)
        self._moved()

    def _moved(self) -> None:
        """An attempt left its slot."""
        self._turns.knock()
        if not self._slots.running:
            self._idle.set()

    async def _recall(self, attempt: Attempt) -> None:
        """Give a later stage what its children came to."""
        attempt.context.children = await self.database.run(reading.children_of, attempt.context.id, attempt.claimed.spawned)

    def _time_out(self, attempt: Attempt) -> None:
        """Settle an attempt whose time is up, whether its handler lets go or not."""
        self._slots.end(attempt, timed_out(attempt))
        self._end_handler(attempt, "timeout")
        self._moved()

    def _stop_attempt(self, key: Key, reason: str) -> None:
        """Somebody else ended an attempt that runs here."""
        attempt = self._slots.take_away(key)
        if attempt is not None:
            log.info("task_taken", task_id=key[0], attempt=key[1], reason=reason)
            self._end_handler(attempt, reason)
            self._moved()

    def _end_handler(self, attempt: Attempt, reason: str) -> None:
        """Make a handler end whose result is no longer wanted; one in a thread can only be told."""
        attempt.over = True
        attempt.context.cancelled = reason
        if attempt.task is None or attempt.task.done():
            return
        self._slots.lingering.add(attempt)
        LINGERING.inc()
        attempt.task.add_done_callback(lambda _: self._let_go(attempt))
        if attempt.handler.run_in != THREAD:
            attempt.task.cancel()

    def _let_go(self, attempt: Attempt) -> None:
        """A handler that was told to end has ended."""
        self._slots.lingering.discard(attempt)
        LINGERING.dec()
        self._turns.knock()

    # ── what handlers report ──────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, worker_id: int, task_id: int, fence: int, note: Note, snapshot: dict[str, Json]) -> None:
        _refuse(self.database.call(record.note_running, worker_id, task_id, fence, note, snapshot))

    async def _tell_async(self, worker_id: int, task_id: int, fence: int, note: Note, snapshot: dict[str, Json]) -> None:
        _refuse(await self.database.run(record.note_running, worker_id, task_id, fence, note, snapshot))

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _drain(self) -> None:
        """Let what runs finish, interrupt what does not, settle it all, and give the lease up."""
        self.state = State.DRAINING
        await self._until(lambda: not self._turns.under_way)
        await self._finish()
        for attempt in list(self._slots.running.values()):
            self._slots.end(attempt, interrupted(attempt, "interrupted: its worker drained"))
            self._end_handler(attempt, "drain")
        await self._until(lambda: not (self._slots.ended or self._turns.under_way or self._maintenance.looking))
        await self._end_loops()
        await self._leave()
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
        self._tell_handlers("drain")
        self._idle.clear()
        if self._slots.running:
            waits = [asyncio.create_task(event.wait()) for event in (self._idle, self._hurry)]
            await asyncio.wait(waits, timeout=self.settings.drain, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _until(self, done: Callable[[], bool]) -> None:
        """Let the turns do what is left, as long as the database lets them."""
        deadline = time.monotonic() + FLUSH
        self._turns.knock()
        while not done() and self.writes and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    async def _leave(self) -> None:
        self._deadlines.stop()
        if self._out_of_touch is not None:
            self._out_of_touch.cancel()
        if self._heartbeat is not None:
            await asyncio.to_thread(self._heartbeat.stop)
        try:
            await self.database.run(leases.stop, self.worker_id)
        except DatabaseError as error:
            log.warning("drain_failed", worker_id=self.worker_id, error=str(error))
        await self._places.processes.close()
        self._places.threads.shutdown(wait=False, cancel_futures=True)


UNSERVED = Handler(Declaration("unserved"), lambda: None, LOOP, None)
"""Stands in for a handler that was removed between the claim and the start."""

FLUSH = 10.0
"""Seconds that a draining worker gives a database that does not answer."""


def _refuse(refusal: LeaseLost | None) -> None:
    if refusal is not None:
        raise refusal


def _soon(loop: asyncio.AbstractEventLoop, call: Any, *arguments: object) -> None:
    """Call in the event loop, from another thread; a loop that has closed hears nothing."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        return
