"""What a handler is given: its task, and what it may do besides returning a value.

A handler that returns `ctx.spawn(...)` or `ctx.suspend(...)` ends its attempt as suspended. How a report reaches the
database is the worker's business (`tell`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fibflow import encoding
from fibflow.errors import InvalidInput
from fibflow.model import Child, Json, NewTask
from fibflow.plain_verbs import NO_PAYLOAD, given
from fibflow.store.clock import EPOCH
from fibflow.store.notes import Note
from fibflow.store.record import checkpoint_note, progress_note


@dataclass(frozen=True, slots=True)
class Spawned:
    """Children to create; what `ctx.spawn` returns."""

    children: Sequence[NewTask]
    context: bytes | None


@dataclass(frozen=True, slots=True)
class Suspended:
    """A wait for a person; what `ctx.suspend` returns."""

    reason: str
    context: bytes | None
    metadata: str | None


class HandlerTimeout(Exception):
    """The attempt's time is up; raised by `ctx.check_timeout`."""


def child(
    type: str,
    payload: Json = NO_PAYLOAD,
    *,
    tag: str | None = None,
    delay: float | None = None,
    run_at: datetime | None = None,
    **options: float | int | None,
) -> NewTask:
    """A child to spawn. `options` are those of a task: timeout, max_attempts, backoff, priority …"""
    return NewTask(type, given(payload), tag=tag, delay=delay, run_at=run_at, options=encoding.named_options(options))


@dataclass(slots=True)
class AttemptContext:
    """The task of this attempt. Durations in seconds."""

    id: int
    name: str
    """The task's type."""
    payload: Json
    stage: int
    """How often the task has spawned, or waited for a person, since it began: 0 at first, and after a retry."""
    attempt: int
    """This one's number: it rises with every attempt, whatever for."""
    priority: int
    tag: str | None
    context: bytes | None
    """What an earlier stage gave to spawn or suspend."""
    children: Sequence[Child]
    """What was spawned last, by id; empty at stage 0."""
    parent_id: int | None
    root_id: int
    """The task that the whole workflow began with; its own id, if it has no parent."""
    failures: int
    """Attempts that failed or timed out before."""
    max_attempts: int
    timeout: float
    """Seconds that an attempt may take."""
    created: int
    """When the task was created, in microseconds since the epoch; `created_at` is the same as a datetime."""
    started: float = field(default_factory=time.monotonic)
    cancelled: str | None = None
    """Why the handler should stop, or None."""

    @property
    def fence(self) -> int:
        """The number that every write of this attempt carries; guard writes to other systems with it."""
        return self.attempt

    @property
    def created_at(self) -> datetime:
        """When the task was created."""
        return EPOCH + timedelta(microseconds=self.created)

    def spawn(self, children: NewTask | Sequence[NewTask], *, context: bytes | None = None) -> Spawned:
        """Return this: end the attempt, create the children, go on with the next stage when all of them are final."""
        spawned = (children,) if isinstance(children, NewTask) else tuple(children)
        if not spawned:
            raise InvalidInput("children", list(spawned), "is empty; return a value, or spawn at least one child")
        return Spawned(spawned, encoding.context(context))

    def suspend(self, *, reason: str, context: bytes | None = None, metadata: Json = None) -> Suspended:
        """Return this: end the attempt and wait until somebody resumes the task."""
        return Suspended(encoding.trimmed(reason, "reason"), encoding.context(context), encoding.metadata(metadata))

    def check_timeout(self) -> None:
        """Raise HandlerTimeout when the attempt's time is up."""
        if time.monotonic() - self.started >= self.timeout:
            raise HandlerTimeout(f"timed out after {self.timeout:g} s")


@dataclass(slots=True)
class Context(AttemptContext):
    """For handlers that are plain functions: a report is stored when the call returns."""

    tell: Callable[[int, int, Note, dict[str, Json]], None] = field(kw_only=True)

    def progress(
        self,
        text: str | None = None,
        *,
        stage_name: str | None = None,
        percent: float | None = None,
        message: str | None = None,
        metadata: Json = None,
    ) -> None:
        """Show how far the task is. Raises InvalidInput, LeaseLost."""
        self.tell(self.id, self.attempt, *progress_note(text, stage_name, percent, message, metadata))

    def checkpoint(self, code: str, *, message: str | None = None, metadata: Json = None) -> None:
        """Record that a point was reached. Raises InvalidInput, LeaseLost."""
        self.tell(self.id, self.attempt, checkpoint_note(code, message, metadata), {})


@dataclass(slots=True)
class AsyncContext(AttemptContext):
    """For async handlers: a report is stored when it has been awaited."""

    tell: Callable[[int, int, Note, dict[str, Json]], Awaitable[None]] = field(kw_only=True)

    async def progress(
        self,
        text: str | None = None,
        *,
        stage_name: str | None = None,
        percent: float | None = None,
        message: str | None = None,
        metadata: Json = None,
    ) -> None:
        """Show how far the task is. Raises InvalidInput, LeaseLost."""
        await self.tell(self.id, self.attempt, *progress_note(text, stage_name, percent, message, metadata))

    async def checkpoint(self, code: str, *, message: str | None = None, metadata: Json = None) -> None:
        """Record that a point was reached. Raises InvalidInput, LeaseLost."""
        await self.tell(self.id, self.attempt, checkpoint_note(code, message, metadata), {})
