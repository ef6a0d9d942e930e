"""One attempt: its handler is called, and what came of it becomes an ending. Nothing here settles anything.

run ──▶ value ──▶ completed
    ├─▶ Spawned, Suspended ──▶ suspended
    ├─▶ exception, Retry, PermanentError ──▶ failed
    ├─▶ out of time ──▶ timeout
    └─▶ given back by its worker ──▶ interrupted
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fibflow import encoding
from fibflow.app import LOOP, PROCESS, Handler
from fibflow.context import AttemptContext, HandlerTimeout, Spawned, Suspended
from fibflow.errors import InvalidInput, PermanentError, Retry
from fibflow.lifecycle import Facts, Next, after_failure, after_release, ended
from fibflow.logs import configured
from fibflow.model import NewTask, Outcome, Status
from fibflow.store.claim import Claimed
from fibflow.store.ending import Ending, Key
from fibflow.store.notes import ENDS, Note
from fibflow.tracing import Traced
from fibflow_worker.inprocess import PASSED, Call, call_handler
from fibflow_worker.processes import ChildError, Processes

Tell = Callable[..., Awaitable[None]]


@dataclass(slots=True, eq=False)
class Attempt:
    """A claimed attempt that runs. `deadline` is monotonic; `over`: it was ended from outside, its result is not wanted."""

    key: Key
    worker_id: int
    type_id: int
    handler: Handler
    context: AttemptContext
    claimed: Claimed
    deadline: float
    over: bool = False
    task: asyncio.Task[None] | None = None
    traced: Traced | None = None

    @property
    def facts(self) -> Facts:
        """What decides the future of its task."""
        return self.claimed.facts


@dataclass(slots=True)
class Result:
    """What came of an attempt: its ending, and the children to create with it.

    `blocked`: when it was to be settled, others held something that it needs.
    """

    attempt: Attempt
    ending: Ending
    children: Sequence[NewTask] = ()
    blocked: bool = False
    ended: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long the attempt took."""
        return self.ended - self.attempt.context.started


@dataclass(frozen=True, slots=True)
class Places:
    """Where handlers run that do not run in the loop, and how those in a process report."""

    threads: Executor
    processes: Processes
    tell: Tell


async def execute(attempt: Attempt, places: Places) -> Result:
    """Run the handler to its end; what came of it. Raises nothing but CancelledError, when it is cancelled."""
    try:
        value = await _call(attempt, places)
    except HandlerTimeout as error:
        return timed_out(attempt, str(error))
    except ChildError as error:
        return failed(attempt, error.original or error, error.text)
    except asyncio.CancelledError as error:
        if attempt.over:
            raise
        return failed(attempt, error)
    except BaseException as error:  # a handler that exits ends itself, not its worker
        return failed(attempt, error)
    return returned(attempt, value)


async def _call(attempt: Attempt, places: Places) -> Any:
    handler, context = attempt.handler, attempt.context
    arguments = handler.arguments(context.payload)
    if handler.run_in == LOOP:
        return await handler.function(context, **arguments)
    if handler.run_in == PROCESS:
        return await places.processes.run(
            call_handler, _call_of(attempt, arguments), _reporter(attempt, places), key=attempt.key
        )
    loop, call = asyncio.get_running_loop(), partial(_in_a_thread, handler.function, context, arguments)
    return await loop.run_in_executor(places.threads, call if attempt.traced is None else partial(copy_context().run, call))


def _in_a_thread(function: Callable[..., Any], context: AttemptContext, arguments: dict[str, Any]) -> Any:
    try:
        return function(context, **arguments)
    except (StopIteration, GeneratorExit) as error:  # no future brings these out of a thread
        raise RuntimeError(f"the handler raised {type(error).__name__}") from error


def _call_of(attempt: Attempt, arguments: dict[str, Any]) -> Call:
    function, context = attempt.handler.function, attempt.context
    fields = {name: getattr(context, name) for name in PASSED}
    carried = None if attempt.traced is None else attempt.traced.carried
    return Call(function.__module__, function.__name__, fields, arguments, carried, configured())


def _reporter(attempt: Attempt, places: Places) -> Callable[[Any], Awaitable[None]]:
    async def report(told: Any) -> None:
        await places.tell(attempt.worker_id, *attempt.key, *told)

    return report


def returned(attempt: Attempt, value: Any) -> Result:
    """The result of a handler that returned."""
    if isinstance(value, Spawned):
        return _suspended(attempt, f"waits for {len(value.children)} children", value.context, children=value.children)
    if isinstance(value, Suspended):
        return _suspended(attempt, value.reason, value.context, metadata=value.metadata, suspend_reason=value.reason)
    try:
        text = encoding.encode(_final(value), "result")
    except InvalidInput as error:
        return failed(attempt, error)
    done = Next(Status.COMPLETED, attempt.claimed.failures, attempt.claimed.interruptions)
    return Result(attempt, Ending(*attempt.key, attempt.worker_id, Outcome.COMPLETED, done, text))


def _final(value: Any) -> Any:
    """The same value. Raises InvalidInput for what only ctx.spawn makes something of, though it could be stored as JSON."""
    for part in value if isinstance(value, list | tuple) else (value,):
        if isinstance(part, NewTask):
            raise InvalidInput("result", value, "holds children; return ctx.spawn(…) of them")
        if isinstance(part, Spawned | Suspended):
            raise InvalidInput("result", value, "holds what ctx.spawn or ctx.suspend gave; return that alone")
    return value


def _suspended(
    attempt: Attempt,
    message: str,
    context: bytes | None,
    *,
    metadata: str | None = None,
    suspend_reason: str | None = None,
    children: Sequence[NewTask] = (),
) -> Result:
    note = Note("task_suspended", ENDS, message=message, metadata=metadata)
    after = ended(attempt.facts, Outcome.SUSPENDED)
    parts = {"context": context, "suspend_reason": suspend_reason, "notes": (note,)}
    result = _result(attempt, Outcome.SUSPENDED, after, children=len(children), **parts)
    result.children = children
    return result


def failed(attempt: Attempt, error: BaseException, told: str | None = None) -> Result:
    """The result of a handler that raised, or whose payload or value was wrong."""
    after = getattr(error, "after", None) if isinstance(error, Retry) else None
    retryable = not isinstance(error, PermanentError | InvalidInput)
    following = after_failure(attempt.facts, retryable=retryable, after=after)
    return _result(attempt, Outcome.FAILED, following, error=encoding.error_text(told or error))


def timed_out(attempt: Attempt, told: str | None = None) -> Result:
    """The result of a handler whose time was up."""
    error = told or f"timed out after {attempt.deadline - attempt.context.started:g} s"
    return _result(attempt, Outcome.TIMEOUT, after_failure(attempt.facts), error=error)


def interrupted(attempt: Attempt, message: str) -> Result:
    """The result of an attempt that its own worker gives back: due again at once, nothing counted."""
    note = Note("task_status_changed", ENDS, message=message)
    return _result(attempt, Outcome.INTERRUPTED, after_release(attempt.facts), notes=(note,))


def _result(attempt: Attempt, outcome: Outcome, after: Next, **parts: Any) -> Result:
    return Result(attempt, Ending(*attempt.key, attempt.worker_id, outcome, after, **parts))
