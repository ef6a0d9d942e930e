"""The worker: it registers, claims into its free slots, runs handlers, settles, and drains.

    init ──run──▶ running ──drain──▶ draining ──▶ stopped

One loop does all database work of the attempts: it settles what has ended, then claims into the slots that are free. It
wakes when an attempt ends, when it is told to stop, and once per `poll_interval`. A poll also promotes scheduled tasks,
decides cron ticks, and asks which attempts are still this worker's: the handler of one that is not is cancelled.
A worker that was reaped or superseded cancels what it runs, writes nothing more, and registers anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from fibflow import encoding
from fibflow.app import LOOP, App
from fibflow.context import AsyncContext, Context
from fibflow.errors import DatabaseError, FibflowError, InvalidInput, WorkerLost
from fibflow.lifecycle import Facts, after_failure, after_release
from fibflow.model import DEFAULT_MAX_ATTEMPTS, DEFAULT_TIMEOUT, Json, Outcome
from fibflow.store import claim, cron, leases, reading, record, settle
from fibflow.store.clock import seconds
from fibflow.store.database import Database
from fibflow.store.ending import Ending
from fibflow.store.enqueue import CHANNEL
from fibflow.store.listen import Listener
from fibflow.store.notes import ENDS, Note
from fibflow.store.tasktypes import declare_types
from fibflow_worker.execution import Attempt, Result, execute
from fibflow_worker.heartbeat import Heartbeat
from fibflow_worker.processes import Processes

log = structlog.get_logger(__name__)


class State(StrEnum):
    INIT = "init"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a worker works. Durations in seconds."""

    slots: int = 10
    pod_id: str | None = None
    poll_interval: float = 1.0
    heartbeat_interval: float = 5.0
    lease: float = 30.0
    drain: float = 30.0
    recover_running_tasks: bool = True


class Worker:
    """One process that serves an App's task types from a database."""

    def __init__(self, app: App, database: Database, settings: Settings | None = None) -> None:
        self.app, self.database, self.settings = app, database, settings or Settings()
        self.state = State.INIT
        self.worker_id = 0
        self.paused = False
        self._types: dict[str, int] = {}
        self._known_version = -1
        self._running: dict[tuple[int, int], tuple[Attempt, asyncio.Task[Result]]] = {}
        self._ended: list[Result] = []
        self._threads = ThreadPoolExecutor(self.settings.slots, thread_name_prefix="handler")
        self._processes = Processes(self.settings.slots)
        self._wake = asyncio.Event()
        self._heartbeat: Heartbeat | None = None
        self._lost = False

    async def run(self) -> None:
        """Work until `stop` is called; then drain. Raises FibflowError when it cannot start."""
        if self.state is not State.INIT:
            raise FibflowError(f"a worker that is {self.state} cannot be started; make a new one")
        self.state = State.RUNNING
        await self._register()
        listening = asyncio.create_task(self._listen())
        try:
            while self.state is State.RUNNING:
                await self._turn_safely()
        finally:
            listening.cancel()
            await self._drain()

    async def _listen(self) -> None:
        """Wake at once when work is enqueued or an attempt is taken away (PostgreSQL; polls are enough without it)."""
        if self.database.postgresql:
            await Listener(self.database.url, CHANNEL, lambda told: self._wake.set()).run()

    def stop(self) -> None:
        """Stop claiming and let what runs finish within the drain time."""
        if self.state is State.RUNNING:
            self.state = State.DRAINING
        self._wake.set()

    def pause(self) -> None:
        """Claim nothing until resumed; what runs goes on."""
        self.paused = True

    def resume(self) -> None:
        """Claim again after a pause."""
        self.paused = False
        self._wake.set()

    # ── the lease ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _register(self, *, supersede: bool = True) -> None:
        self.worker_id = await self.database.run(
            leases.register,
            pod_id=self.settings.pod_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=self.settings.slots,
            lease=self.settings.lease,
            recover=self.settings.recover_running_tasks,
            supersede=supersede,
        )
        self._lost = False
        loop = asyncio.get_running_loop()

        def lost() -> None:
            loop.call_soon_threadsafe(self._lose)

        self._heartbeat = Heartbeat(self.database, self.worker_id, self.settings.heartbeat_interval, lost)
        self._heartbeat.start()
        log.info("worker_registered", worker_id=self.worker_id, pod_id=self.settings.pod_id)

    def _lose(self) -> None:
        """Another took over: nothing of what runs here may be written any more."""
        log.info("worker_lost", worker_id=self.worker_id)
        for attempt, running in self._running.values():
            attempt.context.cancelled = "lease_lost"
            running.cancel()
        self._running.clear()
        self._ended.clear()
        self._lost = True
        self._wake.set()

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _turn_safely(self) -> None:
        try:
            await self._turn()
        except DatabaseError as error:
            log.warning("database_error", worker_id=self.worker_id, error=str(error))
            await asyncio.sleep(self.settings.poll_interval)

    async def _turn(self) -> None:
        if self._lost and not await self._came_back():
            return
        await self._settle()
        if await self._claim() == 0:
            due_in = await self._poll()
            await self._sleep(min(self.settings.poll_interval, due_in))

    async def _came_back(self) -> bool:
        """Register anew after a loss, as soon as no other worker of this pod is active; whether it was so."""
        try:
            await self._register(supersede=False)
        except WorkerLost:
            await self._sleep(self.settings.poll_interval)
        return not self._lost

    async def _sleep(self, duration: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(duration, 0.001))
        self._wake.clear()

    async def _settle(self) -> None:
        while self._ended:
            batch = self._ended[:500]
            plain = [result.ending for result in batch if not result.children]
            if plain:
                await self._settle_plain(plain)
            for result in batch:
                if result.children:
                    await self._spawn(result)
            del self._ended[: len(batch)]

    async def _settle_plain(self, endings: Sequence[Ending]) -> None:
        for stale in await self.database.run(settle.settle, self.worker_id, endings):
            log.info("stale_write_refused", task_id=stale.task_id, fence=stale.fence, verb=stale.verb)

    async def _spawn(self, result: Result) -> None:
        try:
            await self.database.run(record.spawn, self.worker_id, result.ending, result.children)
        except InvalidInput as error:
            ending = result.ending
            after = after_failure(Facts(), retryable=False)
            failed = Ending(
                ending.task_id,
                ending.fence,
                ending.worker_id,
                Outcome.FAILED,
                after,
                error=encoding.error_text(error),
            )
            await self._settle_plain([failed])

    async def _claim(self) -> int:
        free = self.settings.slots - len(self._running) - len(self._ended)
        if free <= 0 or self.paused:
            return 0
        lanes = await self._lanes(free)
        rows = await self.database.run(claim.claim, self.worker_id, lanes, free) if lanes else []
        for row in rows:
            await self._start(row)
        return len(rows)

    async def _lanes(self, free: int) -> list[claim.Lane]:
        if self.app.version != self._known_version:
            version, handlers = self.app.version, self.app.handlers
            declarations = [handler.declaration for handler in handlers.values()]
            self._types = await self.database.run(declare_types, declarations) if declarations else {}
            self._known_version = version
        rooms = {name: self._room(name, free) for name in self._types}
        return [claim.Lane(self._types[name], room) for name, room in rooms.items() if room > 0]

    def _room(self, name: str, free: int) -> int:
        handler = self.app.handlers.get(name)
        if handler is None:
            return 0
        limit = handler.declaration.max_concurrent_tasks
        busy = sum(attempt.context.name == name for attempt, _ in self._running.values())
        return free if limit is None else min(free, limit - busy)

    async def _start(self, row: Any) -> None:
        name = next((name for name, type_id in self._types.items() if type_id == row.type_id), None)
        handler = self.app.handlers.get(name) if name is not None else None
        if name is None or handler is None:
            await self._release(row)
            return
        children = await self.database.run(reading.children_of, row.id, row.spawned) if row.stage else []
        kind: Any = AsyncContext if handler.run_in == LOOP else Context
        tell = self._tell_async if handler.run_in == LOOP else self._tell
        context = kind(
            id=row.id,
            name=name,
            payload=encoding.decode(row.payload),
            stage=row.stage,
            attempt=row.attempt,
            priority=row.priority,
            tag=row.tag,
            context=row.context,
            children=children,
            parent_id=row.parent_id,
            root_id=row.root_id or row.id,
            failures=row.failures,
            max_attempts=row.max_attempts or DEFAULT_MAX_ATTEMPTS,
            timeout=seconds(row.timeout) or DEFAULT_TIMEOUT,
            tell=_for(tell, row.id, row.attempt),
        )
        tell_async = _for(self._tell_async, row.id, row.attempt)

        async def report(told: Any) -> None:
            await tell_async(*told)

        attempt = Attempt(row.id, row.attempt, self.worker_id, handler, context, leases.facts_of(row._mapping), report)
        running = asyncio.create_task(execute(attempt, self._threads, self._processes))
        self._running[row.id, row.attempt] = attempt, running
        running.add_done_callback(lambda done: self._finish((row.id, row.attempt), done))

    async def _release(self, row: Any) -> None:
        note = Note("task_status_changed", ENDS, message="released: no handler here any more")
        facts = leases.facts_of(row._mapping)
        key = (row.id, row.attempt, self.worker_id)
        await self._settle_plain([Ending(*key, Outcome.INTERRUPTED, after_release(facts), notes=(note,))])

    def _finish(self, key: tuple[int, int], done: asyncio.Task[Result]) -> None:
        known = self._running.pop(key, None)
        if known is not None and not done.cancelled():
            self._ended.append(done.result())
        self._wake.set()

    # ── what handlers report ──────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, task_id: int, fence: int, note: Note, snapshot: dict[str, Json]) -> None:
        refused = self.database.call(record.note_running, self.worker_id, task_id, fence, note, snapshot)
        if refused is not None:
            raise refused

    async def _tell_async(self, task_id: int, fence: int, note: Note, snapshot: dict[str, Json]) -> None:
        refused = await self.database.run(record.note_running, self.worker_id, task_id, fence, note, snapshot)
        if refused is not None:
            raise refused

    # ── polls and the end ─────────────────────────────────────────────────────────────────────────────────────────

    async def _poll(self) -> float:
        """See what is due besides ready tasks, and do it; seconds until the next of it."""
        outlook = await self.database.run(claim.look, list(self._types.values()))
        if outlook.promote:
            await self.database.run(claim.promote)
        if outlook.tick:
            await self.database.run(cron.decide_ticks)
        if self._running:
            await self._cancel_lost()
        return 0.0 if outlook.promote or outlook.tick else outlook.due_in / 1_000_000

    async def _cancel_lost(self) -> None:
        before = set(self._running)
        for key in before - await self.database.run(claim.owned, self.worker_id):
            known = self._running.pop(key, None)
            if known is not None:
                known[0].context.cancelled = "lease_lost"
                known[1].cancel()

    async def _drain(self) -> None:
        """Let what runs finish, interrupt what does not, settle it all, and give the lease up."""
        self.state = State.DRAINING
        running = [task for _, task in self._running.values()]
        if running:
            await asyncio.wait(running, timeout=self.settings.drain)
        try:
            await self._interrupt()
            await self._settle()
            await self.database.run(leases.stop, self.worker_id)
        except DatabaseError as error:
            log.warning("drain_failed", worker_id=self.worker_id, error=str(error))
        if self._heartbeat is not None:
            await asyncio.to_thread(self._heartbeat.stop)
        await self._processes.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.state = State.STOPPED

    async def _interrupt(self) -> None:
        note = Note("task_status_changed", ENDS, message="interrupted: its worker drained")
        left = [attempt for attempt, _ in self._running.values()]
        for attempt, running in self._running.values():
            attempt.context.cancelled = "drain"
            running.cancel()
        self._running.clear()
        endings = [
            Ending(a.task_id, a.fence, a.worker_id, Outcome.INTERRUPTED, after_release(a.facts), notes=(note,)) for a in left
        ]
        if endings:
            await self._settle_plain(endings)


def _for(tell: Any, task_id: int, fence: int) -> Any:
    """The same report, for one attempt."""
    return lambda note, snapshot: tell(task_id, fence, note, snapshot)
