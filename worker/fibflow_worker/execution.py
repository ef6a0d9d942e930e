"""One attempt: its handler is called, and what came of it becomes an ending. Nothing here touches the database.

run ──▶ value ──▶ completed
    ├─▶ Spawned, Suspended ──▶ suspended
    ├─▶ exception, Retry, PermanentError ──▶ failed
    └─▶ out of time ──▶ timeout
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from fibflow import encoding
from fibflow.app import LOOP, PROCESS, Handler
from fibflow.context import HandlerTimeout, Spawned, Suspended, _Context
from fibflow.errors import InvalidInput, PermanentError, Retry
from fibflow.lifecycle import Facts, after_failure, ended
from fibflow.model import NewTask, Outcome
from fibflow.store.ending import Ending
from fibflow.store.notes import ENDS, Note
from fibflow_worker.inprocess import SHARED, Call, call_handler
from fibflow_worker.processes import ChildError, OnNote, Processes


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed attempt, ready to run."""

    task_id: int
    fence: int
    worker_id: int
    handler: Handler
    context: _Context
    facts: Facts
    report: OnNote


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an attempt: its ending, and the children to create with it."""

    ending: Ending
    children: Sequence[NewTask] = ()


async def execute(attempt: Attempt, threads: Executor, processes: Processes) -> Result:
    """Run the handler to its end or to its timeout; what came of it. Never raises, except when it is cancelled."""
    limit = asyncio.timeout(attempt.context.timeout)
    try:
        async with limit:
            value = await _call(attempt, threads, processes)
    except (TimeoutError, HandlerTimeout) as error:
        if limit.expired() or isinstance(error, HandlerTimeout):
            return timed_out(attempt)
        return failed(attempt, error)
    except ChildError as error:
        return failed(attempt, error.original or error, error.text)
    except Exception as error:
        return failed(attempt, error)
    return returned(attempt, value)


async def _call(attempt: Attempt, threads: Executor, processes: Processes) -> Any:
    arguments = attempt.handler.arguments(attempt.context.payload)
    if attempt.handler.run_in == LOOP:
        return await attempt.handler.function(attempt.context, **arguments)
    if attempt.handler.run_in == PROCESS:
        return await processes.run(call_handler, _call_of(attempt, arguments), attempt.report)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(threads, lambda: attempt.handler.function(attempt.context, **arguments))


def _call_of(attempt: Attempt, arguments: dict[str, Any]) -> Call:
    function, context = attempt.handler.function, attempt.context
    return Call(function.__module__, function.__name__, {name: getattr(context, name) for name in SHARED}, arguments)


def returned(attempt: Attempt, value: Any) -> Result:
    """The result of a handler that returned."""
    if isinstance(value, Spawned):
        note = Note("task_suspended", ENDS, message=f"waits for {len(value.children)} children")
        parts = {"context": value.context, "children": len(value.children), "notes": (note,)}
        return Result(_ending(attempt, Outcome.SUSPENDED, **parts), value.children)
    if isinstance(value, Suspended):
        note = Note("task_suspended", ENDS, message=value.reason, metadata=value.metadata)
        return Result(_ending(attempt, Outcome.SUSPENDED, context=value.context, suspend_reason=value.reason, notes=(note,)))
    try:
        return Result(_ending(attempt, Outcome.COMPLETED, result=encoding.encode(value, "result")))
    except InvalidInput as error:
        return failed(attempt, error)


def failed(attempt: Attempt, error: BaseException, told: str | None = None) -> Result:
    """The result of a handler that raised, or whose payload or value was wrong."""
    after = error.after if isinstance(error, Retry) else None
    retryable = not isinstance(error, PermanentError | InvalidInput)
    following = after_failure(attempt.facts, retryable=retryable, after=after)
    text = encoding.error_text(told or error)
    key = (attempt.task_id, attempt.fence, attempt.worker_id)
    return Result(Ending(*key, Outcome.FAILED, following, error=text))


def timed_out(attempt: Attempt) -> Result:
    """The result of a handler whose time was up."""
    error = f"timed out after {attempt.context.timeout:g} s"
    key = (attempt.task_id, attempt.fence, attempt.worker_id)
    return Result(Ending(*key, Outcome.TIMEOUT, after_failure(attempt.facts), error=error))


def _ending(attempt: Attempt, outcome: Outcome, **parts: Any) -> Ending:
    return Ending(attempt.task_id, attempt.fence, attempt.worker_id, outcome, ended(attempt.facts, outcome), **parts)
