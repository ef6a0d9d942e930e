"""A workflow in figures: counts, timing, what failed, and where the time went. Pure, but for the verb that gathers.

The critical path is an estimate for diagnosis, as fib-flow has it: a task's length is its longest ended attempt's, a
path's is the task's and its longest child branch's. What retention deleted is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from fibflow.model import Attempt, Outcome, Status, TaskId, WorkerId
from fibflow.store.attempts import all_attempts, scope
from fibflow.store.audit import Totals, totals
from fibflow.store.database import Session, read
from fibflow.store.snapshot import moment, united

Key = TypeVar("Key", Status, Outcome, str, int)
SLOWEST = 5


@dataclass(frozen=True, slots=True)
class Member:
    """A task of a workflow, as far as a summary needs it."""

    id: TaskId
    parent_id: TaskId | None
    type: str
    status: Status
    stage: int
    last_outcome: Outcome | None
    error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Timing:
    """When a workflow ran. `duration`: seconds from the root's creation to the last end of an attempt, at least 0."""

    created_at: datetime
    first_started_at: datetime | None
    last_ended_at: datetime | None
    last_event_time: datetime
    duration: float | None


@dataclass(frozen=True, slots=True)
class TimedAttempt:
    """An attempt, and how many seconds it took; None while it is open."""

    attempt: Attempt
    duration: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """A task on the critical path, with its longest attempt; None when there is none, or no seconds while it is open."""

    task: Member
    attempt: Attempt | None
    duration: float | None


@dataclass(frozen=True, slots=True)
class CriticalPath:
    """From the root down to a leaf, and how many seconds the steps took together."""

    steps: tuple[Step, ...]
    duration: float


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """A workflow in figures. `stages`: the root's attempts, by number; each says its stage.

    `failed`: tasks that failed for good, are paused, or wait for the attempt after one that failed. `by_outcome` counts
    attempts, `by_stage` the tasks by the stage that they are in. `workers`: all that any event names.
    """

    root: Member
    tasks: int
    attempts: int
    events: int
    checkpoints: int
    max_attempt: int
    by_status: Mapping[Status, int]
    by_outcome: Mapping[Outcome, int]
    by_type: Mapping[str, int]
    by_stage: Mapping[int, int]
    workers: tuple[WorkerId, ...]
    timing: Timing
    stages: tuple[TimedAttempt, ...]
    failed: tuple[Member, ...]
    critical_path: CriticalPath
    slowest: tuple[TimedAttempt, ...]


@read
def workflow_summary(session: Session, root_id: int) -> WorkflowSummary:
    """A workflow in figures; it reads the whole of it. Raises NotFound, InvalidInput."""
    workflow = scope(session, root_id, workflow=True)
    rows = united(session.namespace, [root_id], MEMBER_COLUMNS, workflow=True)
    members = [_member(row) for row in session.connection.execute(sa.select(rows).order_by(rows.c.id))]
    return summarize(members, all_attempts(session, workflow), totals(session, workflow))


MEMBER_COLUMNS = ("id", "parent_id", "type", "status", "stage", "last_outcome", "error", "created_at")


def _member(row: sa.Row[tuple[object, ...]]) -> Member:
    return Member(
        id=TaskId(row.id),
        parent_id=None if row.parent_id is None else TaskId(row.parent_id),
        type=row.type,
        status=Status(row.status),
        stage=row.stage,
        last_outcome=None if row.last_outcome is None else Outcome(row.last_outcome),
        error=row.error,
        created_at=moment(row.created_at),
    )


def summarize(members: Sequence[Member], attempts: Sequence[Attempt], told: Totals) -> WorkflowSummary:
    """The figures of a workflow: its tasks by id, the root first, their attempts by task and number, and its events."""
    root = members[0]
    return WorkflowSummary(
        root=root,
        tasks=len(members),
        attempts=len(attempts),
        events=told.events,
        checkpoints=told.checkpoints,
        max_attempt=max((one.attempt for one in attempts), default=0),
        by_status=_counted(member.status for member in members),
        by_outcome=_counted(one.outcome for one in attempts if one.outcome is not None),
        by_type=_counted(member.type for member in members),
        by_stage=_counted(member.stage for member in members),
        workers=told.workers,
        timing=timing(root.created_at, attempts, told.last_event_time),
        stages=tuple(timed(one) for one in attempts if one.task_id == root.id),
        failed=tuple(member for member in members if is_failed(member)),
        critical_path=critical_path(members, attempts),
        slowest=slowest(attempts),
    )


def _counted(values: Iterable[Key]) -> dict[Key, int]:
    """How often each value comes, by value."""
    return dict(sorted(Counter(values).items()))


def timing(created_at: datetime, attempts: Sequence[Attempt], last_event_time: datetime) -> Timing:
    last = max((one.ended_at for one in attempts if one.ended_at), default=None)
    return Timing(
        created_at=created_at,
        first_started_at=min((one.started_at for one in attempts), default=None),
        last_ended_at=last,
        last_event_time=last_event_time,
        duration=None if last is None else max(0.0, (last - created_at).total_seconds()),
    )


def timed(attempt: Attempt) -> TimedAttempt:
    """An attempt with its duration; a clock that stepped back makes none negative."""
    if attempt.ended_at is None:
        return TimedAttempt(attempt, None)
    return TimedAttempt(attempt, max(0.0, (attempt.ended_at - attempt.started_at).total_seconds()))


def is_failed(member: Member) -> bool:
    """Failed for good, held back, or waiting for the attempt after one that failed."""
    if member.status is Status.PENDING:
        return member.last_outcome in (Outcome.FAILED, Outcome.TIMEOUT)
    return member.status in (Status.PERMANENTLY_FAILED, Status.PAUSED)


def critical_path(members: Sequence[Member], attempts: Iterable[Attempt]) -> CriticalPath:
    """From the root down its longest branch; ties go to the lower id. A child's id is above its parent's."""
    tasks = {member.id: member for member in members}
    longest = _longest(attempts)
    whole: dict[TaskId, float] = {}
    below: dict[TaskId, TaskId] = {}
    for member in sorted(members, key=lambda one: one.id, reverse=True):
        child = below.get(member.id)
        whole[member.id] = _seconds(longest.get(member.id)) + (whole[child] if child else 0.0)
        parent = member.parent_id
        if parent is not None and whole[member.id] >= whole.get(below.get(parent, TaskId(0)), -1.0):
            below[parent] = member.id
    steps = tuple(_step(tasks[task_id], longest.get(task_id)) for task_id in _down(members[0].id, below))
    return CriticalPath(steps, whole[members[0].id])


def _longest(attempts: Iterable[Attempt]) -> dict[TaskId, TimedAttempt]:
    """The longest attempt of each task, an open one if no other; ties go to the lower number, which ended earlier."""
    longest: dict[TaskId, TimedAttempt] = {}
    for one in map(timed, attempts):
        known = longest.get(one.attempt.task_id)
        if known is None or _seconds(one) > _seconds(known):
            longest[one.attempt.task_id] = one
    return longest


def _seconds(one: TimedAttempt | None) -> float:
    return 0.0 if one is None or one.duration is None else one.duration


def _down(task_id: TaskId | None, below: Mapping[TaskId, TaskId]) -> Iterable[TaskId]:
    while task_id is not None:
        yield task_id
        task_id = below.get(task_id)


def _step(task: Member, longest: TimedAttempt | None) -> Step:
    return Step(task, longest.attempt, longest.duration) if longest else Step(task, None, None)


def slowest(attempts: Iterable[Attempt]) -> tuple[TimedAttempt, ...]:
    """The longest attempts, the longest first, open ones last; ties go to the earlier start, then to the lower ids."""
    return tuple(sorted(map(timed, attempts), key=_slowness)[:SLOWEST])


def _slowness(one: TimedAttempt) -> tuple[bool, float, datetime, int, int]:
    attempt = one.attempt
    return one.duration is None, -_seconds(one), attempt.started_at, attempt.task_id, attempt.attempt
