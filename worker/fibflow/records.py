"""What is around tasks, as values: task types, cron tasks with their ticks, workers; and the page that a list comes in.

Tasks themselves, and the words for all of it, are in model.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from fibflow.model import ConcurrencyPolicy, Json, MissedRunPolicy, Options, TaskId, WorkerId, WorkerStatus


@dataclass(frozen=True, slots=True)
class TaskType:
    """What a task is an instance of: its name, and what its tasks inherit."""

    id: int
    namespace: str
    name: str
    source: str
    description: str | None
    options: Options
    max_concurrent_tasks: int | None
    paused: bool
    pool: str | None
    """Whose workers run it; None for workers of no pool."""


@dataclass(frozen=True, slots=True)
class CronTask:
    """A task type on a schedule."""

    id: int
    namespace: str
    name: str
    type: str
    schedule: str
    payload: Json
    tag: str | None
    options: Options
    missed_run_policy: MissedRunPolicy
    concurrency_policy: ConcurrencyPolicy
    pause_on_failure: bool
    suspended: bool
    paused: bool
    paused_reason: str | None
    decided_through: datetime
    next_at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Tick:
    """How one instant of a cron task was decided, or a run of instants that were missed together."""

    cron: str
    instant: datetime
    through: datetime
    decision: str
    reason: str | None
    task_id: TaskId | None
    count: int | None
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Worker:
    """One process that claims tasks, or claimed them once."""

    id: WorkerId
    namespace: str
    pod_id: str | None
    host: str
    pid: int
    status: WorkerStatus
    slots: int
    paused: bool
    registered_at: datetime
    renewed_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_by: WorkerId | None
    running: int


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of an ordered list, and how long the whole of it is."""

    items: Sequence[T]
    total: int
    limit: int | None
    offset: int

    @property
    def has_more(self) -> bool:
        return self.offset + len(self.items) < self.total
