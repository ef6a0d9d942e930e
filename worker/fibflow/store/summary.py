"""A workflow in figures: counts, timing, what failed, and where the time went. Pure, but for the verb that gathers.

The critical path is an estimate for diagnosis, as fib-flow has it: a task's length is its longest ended attempt, a
path's is the task's and its longest child branch's. What retention deleted is not counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from fibflow.model import Attempt, Outcome, Status, TaskId, WorkerId
from fibflow.store.attempts import all_attempts, scope
from fibflow.store.audit import last_event_at
from fibflow.store.database import Session, read
from fibflow.store.snapshot import moment, united

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
    """When a workflow ran. `duration`: seconds from the root's creation to the last end of an attempt."""

    first_started_at: datetime | None
    last_ended_at: datetime | None
    last_event_time: datetime
    duration: float | None


@dataclass(frozen=True, slots=True)
class StageTiming:
    """The root's attempts of one stage; open while `ended_at` is None. `duration` in seconds."""

    stage: int
    attempts: int
    started_at: datetime
    ended_at: datetime | None
    duration: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """A task on the critical path, with its longest ended attempt; None and 0 seconds when none has ended."""

    task_id: TaskId
    type: str
    attempt: int | None
    duration: float


@dataclass(frozen=True, slots=True)
class SlowAttempt:
    """An ended attempt, and how many seconds it took."""

    attempt: Attempt
    duration: float


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """A workflow in figures. `failed`: tasks that failed for good, are paused, or wait for another attempt."""

    root_id: TaskId
    tasks: int
    attempts: int
    by_status: Mapping[Status, int]
    by_outcome: Mapping[Outcome, int]
    by_type: Mapping[str, int]
    by_stage: Mapping[int, int]
    workers: tuple[WorkerId, ...]
    timing: Timing
    stages: tuple[StageTiming, ...]
    failed: tuple[Member, ...]
    critical_path: tuple[Step, ...]
    slowest: tuple[SlowAttempt, ...]


@read
def workflow_summary(session: Session, root_id: int) -> WorkflowSummary:
    """A workflow in figures; it reads the whole of it. `by_outcome` counts attempts. Raises NotFound, InvalidInput."""
    workflow = scope(session, root_id, workflow=True)
    rows = united(session.namespace, [root_id], MEMBER_COLUMNS, workflow=True)
    members = [_member(row) for row in session.connection.execute(sa.select(rows).order_by(rows.c.id))]
    last_event_time: datetime = moment(last_event_at(session, workflow))
    return summarize(members, all_attempts(session, workflow), last_event_time)


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


def summarize(members: Sequence[Member], attempts: Sequence[Attempt], last_event_time: datetime) -> WorkflowSummary:
    """The figures of a workflow: its tasks by id, the root first, and their attempts by task and number."""
    root = members[0]
    return WorkflowSummary(
        root_id=root.id,
        tasks=len(members),
        attempts=len(attempts),
        by_status=Counter(member.status for member in members),
        by_outcome=Counter(one.outcome for one in attempts if one.outcome is not None),
        by_type=Counter(member.type for member in members),
        by_stage=Counter(member.stage for member in members),
        workers=tuple(sorted({one.worker_id for one in attempts})),
        timing=timing(root.created_at, attempts, last_event_time),
        stages=stage_timings([one for one in attempts if one.task_id == root.id]),
        failed=tuple(member for member in members if is_failed(member)),
        critical_path=critical_path(members, attempts),
        slowest=slowest(attempts),
    )


def timing(created_at: datetime, attempts: Sequence[Attempt], last_event_time: datetime) -> Timing:
    last = max((one.ended_at for one in attempts if one.ended_at), default=None)
    return Timing(
        first_started_at=min((one.started_at for one in attempts), default=None),
        last_ended_at=last,
        last_event_time=last_event_time,
        duration=None if last is None else (last - created_at).total_seconds(),
    )


def stage_timings(attempts: Iterable[Attempt]) -> tuple[StageTiming, ...]:
    """From the first start to the last end of each stage, by stage."""
    stages: defaultdict[int, list[Attempt]] = defaultdict(list)
    for one in attempts:
        stages[one.stage].append(one)
    return tuple(_stage_timing(stage, group) for stage, group in sorted(stages.items()))


def _stage_timing(stage: int, attempts: Sequence[Attempt]) -> StageTiming:
    start = min(one.started_at for one in attempts)
    ends = [one.ended_at for one in attempts if one.ended_at]
    end = max(ends) if len(ends) == len(attempts) else None
    return StageTiming(stage, len(attempts), start, end, None if end is None else (end - start).total_seconds())


def is_failed(member: Member) -> bool:
    """Failed for good, held back, or waiting for the attempt after one that failed."""
    if member.status is Status.PENDING:
        return member.last_outcome in (Outcome.FAILED, Outcome.TIMEOUT)
    return member.status in (Status.PERMANENTLY_FAILED, Status.PAUSED)


def critical_path(members: Sequence[Member], attempts: Iterable[Attempt]) -> tuple[Step, ...]:
    """From the root down its longest branch; ties go to the lower id. A child's id is above its parent's."""
    longest = _longest(attempts)
    whole: dict[TaskId, float] = {}
    below: dict[TaskId, TaskId] = {}
    for member in sorted(members, key=lambda one: one.id, reverse=True):
        child = below.get(member.id)
        step = longest.get(member.id)
        whole[member.id] = (step.duration if step else 0.0) + (whole[child] if child else 0.0)
        parent = member.parent_id
        if parent is not None and whole[member.id] >= whole.get(below.get(parent, TaskId(0)), -1.0):
            below[parent] = member.id
    types = {member.id: member.type for member in members}
    return tuple(_step(task_id, types[task_id], longest) for task_id in _down(members[0].id, below))


def _longest(attempts: Iterable[Attempt]) -> dict[TaskId, SlowAttempt]:
    """The longest ended attempt of each task; ties go to the lower number."""
    longest: dict[TaskId, SlowAttempt] = {}
    for one in ended(attempts):
        task_id = one.attempt.task_id
        if task_id not in longest or one.duration > longest[task_id].duration:
            longest[task_id] = one
    return longest


def _down(task_id: TaskId | None, below: Mapping[TaskId, TaskId]) -> Iterable[TaskId]:
    while task_id is not None:
        yield task_id
        task_id = below.get(task_id)


def _step(task_id: TaskId, type: str, longest: Mapping[TaskId, SlowAttempt]) -> Step:
    found = longest.get(task_id)
    return Step(task_id, type, found.attempt.attempt, found.duration) if found else Step(task_id, type, None, 0.0)


def ended(attempts: Iterable[Attempt]) -> list[SlowAttempt]:
    """The attempts that ended, with their durations."""
    return [SlowAttempt(one, (one.ended_at - one.started_at).total_seconds()) for one in attempts if one.ended_at]


def slowest(attempts: Iterable[Attempt]) -> tuple[SlowAttempt, ...]:
    """The longest attempts, the longest first; ties go to the earlier start, then to the lower task and number."""
    ordered = sorted(ended(attempts), key=lambda one: (-one.duration, one.attempt.started_at, one.attempt.task_id))
    return tuple(ordered[:SLOWEST])
