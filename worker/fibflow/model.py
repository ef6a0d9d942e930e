"""The nouns: statuses, outcomes, events, and tasks as values. No I/O, no clock, no SQL.

Ids are integers that rise and are never used twice. An attempt's number is also its fence.
What may follow what is in lifecycle.py; what is around tasks is in records.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

TaskId = NewType("TaskId", int)
WorkerId = NewType("WorkerId", int)
Json = Any

SECOND = 1_000_000
"""Microseconds: the unit of every instant and duration in the database."""


OWN_POOL = "TaskType."
"""What begins the name of the pool that a type with workers of its own has; the name of a WorkerPool holds no capital."""


def own_pool(task_type: str) -> str:
    """The pool of the workers that a TaskType has for itself, by its metadata.name."""
    return f"{OWN_POOL}{task_type}"


class Status(StrEnum):
    """Where a task is."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    PAUSED = "paused"
    COMPLETED = "completed"
    PERMANENTLY_FAILED = "permanently_failed"
    CANCELLED = "cancelled"


FINAL = frozenset({Status.COMPLETED, Status.PERMANENTLY_FAILED, Status.CANCELLED})


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"


class EventType(StrEnum):
    """What the audit tells of a task."""

    CREATED = "task_created"
    SUBTASKS_CREATED = "task_subtasks_created"
    CLAIMED = "task_claimed"
    STARTED = "task_started"
    RETRY_STARTED = "task_retry_started"
    PROGRESS = "task_progress"
    CHECKPOINT = "task_checkpoint"
    COMPLETED = "task_completed"
    FAILED = "task_failed"
    TIMED_OUT = "task_timed_out"
    RETRY_SCHEDULED = "task_retry_scheduled"
    RECOVERED = "task_recovered"
    SUSPENDED = "task_suspended"
    RESUMED = "task_resumed"
    PAUSED = "task_paused"
    CANCELLED = "task_cancelled"
    REDRIVEN = "task_redriven"
    PERMANENTLY_FAILED = "task_permanently_failed"
    STALE_WRITE_REJECTED = "task_stale_write_rejected"
    STATUS_CHANGED = "task_status_changed"


class MissedRunPolicy(StrEnum):
    """What becomes of instants that passed while nothing could decide them."""

    SKIP = "Skip"
    RUN_LATEST = "RunLatest"


class ConcurrencyPolicy(StrEnum):
    """What becomes of an instant while an earlier tick is not final."""

    ALLOW = "Allow"
    FORBID = "Forbid"


class WorkerStatus(StrEnum):
    """Whether a worker may hold tasks, and else how that ended."""

    ACTIVE = "active"
    STOPPED = "stopped"
    REAPED = "reaped"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Options:
    """How a task is run. None inherits: from the task type, the parent, the defaults below. Durations in seconds."""

    timeout: float | None = None
    """How long one attempt may take."""
    max_attempts: int | None = None
    """Attempts that may fail or time out, the first one included."""
    backoff: float | None = None
    """Between a failure and the next attempt."""
    backoff_factor: float | None = None
    """What the backoff is multiplied by after each further failure."""
    max_backoff: float | None = None
    """What the backoff grows to at the most; a year where nothing is said."""
    priority: int | None = None
    """A higher one is claimed earlier."""


UNSAID = Options()

DEFAULT_TIMEOUT = 60.0
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_BACKOFF = 0.0
DEFAULT_BACKOFF_FACTOR = 1.0
DEFAULT_PRIORITY = 0
INTERRUPTION_BUDGET = 10
"""So many attempts may be lost with their workers; one more, and the task is taken to be what kills them."""

AWAITING_SUBTASKS = "awaiting_subtasks"
"""The suspend reason of a parent that waits for its children."""

MAX_JSON = 1 << 20
"""Bytes of a payload, a result or a context."""
MAX_ERROR = 64 << 10
"""Bytes of an error; longer ones keep their head and their tail."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to enqueue. `delay` in seconds; `run_at` an aware datetime; one of them at the most.

    `trace`: the W3C traceparent that it goes on from; by default that of the span under way, if any (tracing.py).
    """

    type: str
    payload: Json = field(default_factory=dict)
    tag: str | None = None
    delay: float | None = None
    run_at: datetime | None = None
    options: Options = UNSAID
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it stands. Times are aware, durations are seconds."""

    id: TaskId
    namespace: str
    type: str
    status: Status
    stage: int
    priority: int
    payload: Json
    result: Json
    error: str | None
    context: bytes | None
    tag: str | None
    run_at: datetime
    deadline_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    failures: int
    interruptions: int
    last_outcome: Outcome | None
    max_attempts: int
    timeout: float
    backoff: float
    backoff_factor: float
    max_backoff: float | None
    parent_id: TaskId | None
    root_id: TaskId
    generation: int | None
    children: int
    open_children: int
    cron: str | None
    tick: datetime | None
    worker_id: WorkerId | None
    suspend_reason: str | None
    current_stage_name: str | None
    progress_text: str | None
    progress_percent: int | None
    last_event_time: datetime
    last_event_type: EventType


@dataclass(frozen=True, slots=True)
class Child:
    """A child as its parent's next stage sees it."""

    id: TaskId
    name: str
    status: Status
    result: Json
    error: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of one stage; open while `ended_at` is None."""

    task_id: TaskId
    attempt: int
    stage: int
    worker_id: WorkerId
    pod_id: str | None
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    error: str | None
    ended_by: WorkerId | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a task."""

    task_id: TaskId
    root_id: TaskId
    parent_id: TaskId | None
    task_type: str
    type: EventType
    from_status: Status | None
    to_status: Status | None
    stage: int
    attempt: int
    worker_id: WorkerId | None
    time: datetime
    message: str | None
    metadata: Mapping[str, Json] | None
