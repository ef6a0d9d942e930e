"""Attempts, each in its slot: begun with a claim, run by their handlers, ended by these, by time or from outside.

An attempt that was ended from outside is over: what its handler still does or returns is not wanted, and the handler is made
to end; one in a thread can only be told. What a handler reports is written under the worker's id of the registration that
claimed it. How an end is settled is not known here, but the slots that hold the results are (slots.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from tenacity import AsyncRetrying, Retrying, retry_if_exception_type, wait_random

from fibflow import encoding
from fibflow.app import LOOP, PROCESS, THREAD
from fibflow.context import AsyncContext, Context
from fibflow.errors import DatabaseError, DatabaseUnavailable, LeaseLost, OutcomeUnknown
from fibflow.logs import logger
from fibflow.metrics import LINGERING
from fibflow.model import DEFAULT_MAX_ATTEMPTS, DEFAULT_TIMEOUT, SECOND, Json
from fibflow.store import reading, record
from fibflow.store.claim import Claimed
from fibflow.store.database import Database
from fibflow.store.ending import Key
from fibflow.store.notes import Note
from fibflow.tracing import Traced, attempting
from fibflow_worker.deadlines import Deadlines
from fibflow_worker.execution import Attempt, Places, Result, execute, failed, interrupted, timed_out
from fibflow_worker.lanes import UNSERVED, Lanes
from fibflow_worker.processes import Processes
from fibflow_worker.slots import Slots

log = logger(__name__)


class Attempts:
    """What one worker runs. `moved` is called when an attempt has left its slot; `idle` is set when the last one did."""

    def __init__(self, database: Database, slots: Slots, lanes: Lanes, moved: Callable[[], None]) -> None:
        self.database, self.slots, self.lanes, self.moved = database, slots, lanes, moved
        self.deadlines = Deadlines(slots.running.values, self._time_out)
        self.idle = asyncio.Event()
        threads = ThreadPoolExecutor(slots.size, thread_name_prefix="handler")
        self._places = Places(threads, Processes(slots.size), self._tell_async)
        self.write_as(0)

    def write_as(self, worker_id: int) -> None:
        """What begins from now on belongs to this registration."""
        self._worker_id = worker_id
        self._tell_now = partial(self._tell, worker_id)
        self._tell_soon = partial(self._tell_async, worker_id)

    # ── an attempt begins, and runs ───────────────────────────────────────────────────────────────────────────────

    def start(self, task: Claimed) -> None:
        """Run the handler of a task that was claimed."""
        handler = self.lanes.handler(task.type_id) or UNSERVED
        context = self._context(task, handler.declaration.name, handler.run_in)
        deadline = context.started + context.timeout
        attempt = Attempt((task.id, task.attempt), self._worker_id, task.type_id, handler, context, task, deadline)
        attempt.traced = self._traced(task, context.name)
        self.slots.fill(attempt)
        if handler is UNSERVED:
            self._end(attempt, interrupted(attempt, "released: its handler was removed"))
            return
        self.deadlines.watch(attempt)
        attempt.task = asyncio.create_task(self._run(attempt))

    def _traced(self, task: Claimed, name: str) -> Traced | None:
        return attempting(name, task.trace, partial(self._told, task))

    def _told(self, task: Claimed) -> dict[str, Any]:
        told = {"task_id": task.id, "attempt": task.attempt, "stage": task.stage, "tag": task.tag}
        return told | {"namespace": self.database.namespace, "worker_id": self._worker_id}

    def _end(self, attempt: Attempt, result: Result) -> None:
        """Only an attempt's first end counts. Children go on from its span."""
        if attempt.traced is not None:
            attempt.traced.end(result.ending.outcome, result.ending.error)
            result.children = [replace(child, trace=child.trace or attempt.traced.carried) for child in result.children]
        self.slots.end(attempt, result)

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
            if attempt.traced is not None:
                attempt.traced.enter()
            if attempt.context.stage:
                await self._recall(attempt)
            result = interrupted(attempt, "released") if attempt.over else await execute(attempt, self._places)
        except DatabaseError as error:
            result = interrupted(attempt, f"released: its children could not be read: {error}")
        except Exception as error:  # a fault of ours fails the attempt, not the worker
            log.exception("attempt_failed", task_id=attempt.context.id)
            result = failed(attempt, RuntimeError(f"the worker could not run it: {error}"))
        self._end(attempt, result)
        self._moved()

    def _moved(self) -> None:
        self.moved()
        if not self.slots.running:
            self.idle.set()

    async def _recall(self, attempt: Attempt) -> None:
        """Give a later stage what its children came to."""
        attempt.context.children = await self.database.run(reading.children_of, attempt.context.id, attempt.claimed.spawned)

    def _tell(self, worker_id: int, task_id: int, fence: int, note: Note, snapshot: dict[str, Json]) -> None:
        told, patiently = (worker_id, task_id, fence, note, snapshot), Retrying(**self._while_it_runs((task_id, fence)))
        try:
            refusal: LeaseLost | None = patiently(self.database.call, record.note_running, *told)
        except OutcomeUnknown:
            refusal = patiently(self.database.call, record.note_unless_noted, *told)
        _refuse(refusal)

    async def _tell_async(self, worker_id: int, task_id: int, fence: int, note: Note, snapshot: dict[str, Json]) -> None:
        told, patiently = (worker_id, task_id, fence, note, snapshot), AsyncRetrying(**self._while_it_runs((task_id, fence)))
        try:
            refusal: LeaseLost | None = await patiently(self.database.run, record.note_running, *told)
        except OutcomeUnknown:
            refusal = await patiently(self.database.run, record.note_unless_noted, *told)
        _refuse(refusal)

    def _while_it_runs(self, key: Key) -> dict[str, Any]:
        """A report waits for a database that is away, as a result does: its handler would fail for it."""
        return {
            "retry": retry_if_exception_type(DatabaseUnavailable),
            "stop": lambda _: key not in self.slots.running,
            "wait": wait_random(0.1, 1.0),
            "reraise": True,
        }

    # ── what comes from outside ───────────────────────────────────────────────────────────────────────────────────

    def tell_handlers(self, reason: str | None, *, unless: str | None = None) -> None:
        """Tell the handlers why they should stop, or, with None, that they need not any more."""
        for attempt in self.slots.running.values():
            if attempt.context.cancelled == reason or (unless is not None and attempt.context.cancelled == unless):
                continue
            attempt.context.cancelled = reason
            if attempt.handler.run_in == PROCESS and reason is not None:
                self._places.processes.cancel(attempt.key, reason)

    def stop(self, key: Key, reason: str) -> None:
        """Somebody else ended an attempt that runs here."""
        attempt = self.slots.take_away(key)
        if attempt is not None:
            log.info("task_taken", task_id=key[0], attempt=key[1], reason=reason)
            self._end_handler(attempt, reason)
            self._moved()

    def lose(self) -> None:
        """Another took everything over: nothing of what runs here may be written any more."""
        for attempt in self.slots.clear():
            self._end_handler(attempt, "lease_lost")

    def interrupt(self) -> None:
        """Give back what still runs: its worker drained."""
        for attempt in list(self.slots.running.values()):
            self._end(attempt, interrupted(attempt, "interrupted: its worker drained"))
            self._end_handler(attempt, "drain")

    def _time_out(self, attempt: Attempt) -> None:
        """Settle an attempt whose time is up, whether its handler lets go or not."""
        self._end(attempt, timed_out(attempt))
        self._end_handler(attempt, "timeout")
        self._moved()

    def _end_handler(self, attempt: Attempt, reason: str) -> None:
        """Make a handler end whose result is no longer wanted; one in a thread can only be told."""
        attempt.over = True
        if attempt.traced is not None:
            attempt.traced.end(f"taken: {reason}")
        attempt.context.cancelled = reason
        if attempt.task is None or attempt.task.done():
            return
        self.slots.lingering.add(attempt)
        LINGERING.inc()
        attempt.task.add_done_callback(lambda _: self._let_go(attempt))
        if attempt.handler.run_in != THREAD:
            attempt.task.cancel()

    def _let_go(self, attempt: Attempt) -> None:
        """A handler that was told to end has ended."""
        self.slots.lingering.discard(attempt)
        LINGERING.dec()
        self.moved()

    async def close(self) -> None:
        """End the processes and the idle threads; nothing begins any more."""
        await self._places.processes.close()
        self._places.threads.shutdown(wait=False, cancel_futures=True)


def _refuse(refusal: LeaseLost | None) -> None:
    if refusal is not None:
        raise refusal
