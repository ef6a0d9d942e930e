"""A task as one row, whether it is hot or final: the two SELECTs that a reading unites, and the value made of a row.

Each branch is filtered on its own, so that its own indexes serve. A task is hot or final, never both, and one statement
sees one state of the database: a task that ends meanwhile is neither missed nor seen twice. Who asks is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import NotFound
from fibflow.model import (
    AWAITING_SUBTASKS,
    DEFAULT_BACKOFF,
    DEFAULT_BACKOFF_FACTOR,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_TIMEOUT,
    FINAL,
    EventType,
    Outcome,
    Status,
    Task,
    TaskId,
)
from fibflow.store.clock import seconds, to_datetime
from fibflow.store.database import Session
from fibflow.store.ending import LASTING
from fibflow.store.paging import identity
from fibflow.store.tables import cron_task, task, task_final, task_type

Columns = Sequence[str]
Row = sa.Row[Any]

PENDING = ("scheduled", "ready")
"""The states that people see as pending."""

EVERYTHING = (
    *LASTING,
    "namespace",
    "type",
    "status",
    "cron",
    "result",
    "finished_at",
    "open_children",
    "claimed_at",
    "deadline_at",
)

TABLE_NAMED: dict[str, sa.Table] = {"hot": task, "final": task_final}
STATUS = {
    "hot": sa.case((task.c.state.in_(PENDING), Status.PENDING.value), else_=task.c.state),
    "final": sa.type_coerce(task_final.c.status, sa.Text),
}

SUSPEND_REASON = sa.case((task.c.open_children > 0, sa.literal(AWAITING_SUBTASKS, sa.Text)), else_=task.c.suspend_reason)
"""Why a hot task is suspended; None for one that is not."""


def branch(namespace: str, kind: str, columns: Columns = EVERYTHING) -> sa.Select[Any]:
    """The hot or the final tasks of a namespace, with columns of the same names and types in either."""
    table = TABLE_NAMED[kind]
    picked = [_column(kind, name).label(name) for name in columns]
    chosen = sa.select(*picked).join_from(table, task_type, task_type.c.id == table.c.type_id)
    if "cron" in columns:
        chosen = chosen.outerjoin(cron_task, cron_task.c.id == table.c.cron_id)
    return chosen.where(task_type.c.namespace == namespace)


def _column(kind: str, name: str) -> sa.ColumnElement[Any]:
    table = TABLE_NAMED[kind]
    joined = {"namespace": task_type.c.namespace, "type": task_type.c.name, "cron": cron_task.c.name}
    if name in joined:
        return joined[name]
    if name == "status":
        return STATUS[kind]
    if name == "suspend_reason" and kind == "hot":
        return SUSPEND_REASON
    if name in table.c:
        return table.c[name]
    if name == "open_children":
        return sa.literal_column("0", sa.Integer)
    other = task_final if kind == "hot" else task
    return sa.cast(sa.null(), other.c[name].type)


def status_of(state: str) -> Status:
    """The status of a hot task in a state."""
    return Status.PENDING if state in PENDING else Status(state)


def kinds_of(status: Status | None) -> list[str]:
    """Where tasks of a status are to be looked for."""
    return ["hot", "final"] if status is None else ["final"] if status in FINAL else ["hot"]


def status_is(kind: str, status: Status) -> sa.ColumnElement[bool]:
    """The filter that a status is in its own branch."""
    if kind == "final":
        return task_final.c.status == status.value
    return task.c.state.in_(PENDING if status is Status.PENDING else (status.value,))


def suspend_reason_is(kind: str, reason: str) -> sa.ColumnElement[bool]:
    """The filter that a task is suspended for a reason; a parent that waits for its children has one, too."""
    if kind == "final":
        return sa.false()
    return sa.and_(task.c.state == sa.text("'suspended'"), sa.literal(reason, sa.Text) == SUSPEND_REASON)


def in_workflow(table: sa.Table, root_id: int) -> sa.ColumnElement[bool]:
    """The root itself, and everything below it."""
    return sa.or_(table.c.id == root_id, table.c.root_id == root_id)


def united(namespace: str, tasks: Sequence[int], columns: Columns, *, workflow: bool) -> sa.Subquery:
    """The given tasks, or all tasks of the given one's workflow, hot and final."""
    selects = []
    for kind, table in TABLE_NAMED.items():
        scope = in_workflow(table, tasks[0]) if workflow else table.c.id.in_(tasks)
        selects.append(branch(namespace, kind, columns).where(scope))
    return sa.union_all(*selects).subquery("united")


def one(session: Session, task_id: int, field: str = "task_id") -> Task:
    """A task of the namespace, whose id is called so. Raises NotFound, InvalidInput."""
    row = session.connection.execute(
        sa.select(united(session.namespace, [identity(task_id, field)], EVERYTHING, workflow=False))
    ).first()
    if row is None:
        raise NotFound("task", task_id, session.namespace)
    return to_task(row)


def to_task(row: Row) -> Task:
    """The value of a row of EVERYTHING: defaults filled in, times aware, durations in seconds."""
    return Task(
        **{name: getattr(row, name) for name in AS_STORED},
        id=TaskId(row.id),
        status=Status(row.status),
        payload=encoding.decode(row.payload),
        result=encoding.decode(row.result),
        context=None if row.context is None else bytes(row.context),
        run_at=moment(row.run_at),
        deadline_at=to_datetime(row.deadline_at),
        created_at=moment(row.created_at),
        started_at=to_datetime(row.started_at),
        finished_at=to_datetime(row.finished_at),
        last_outcome=None if row.last_outcome is None else Outcome(row.last_outcome),
        max_attempts=DEFAULT_MAX_ATTEMPTS if row.max_attempts is None else row.max_attempts,
        timeout=_seconds(row.timeout, DEFAULT_TIMEOUT),
        backoff=_seconds(row.backoff, DEFAULT_BACKOFF),
        backoff_factor=DEFAULT_BACKOFF_FACTOR if row.backoff_factor is None else row.backoff_factor,
        max_backoff=seconds(row.max_backoff),
        root_id=TaskId(row.id if row.root_id is None else row.root_id),
        tick=to_datetime(row.tick),
        last_event_time=moment(row.created_at if row.last_event_at is None else row.last_event_at),
        last_event_type=_last_event_type(row),
    )


AS_STORED = (
    "namespace",
    "type",
    "stage",
    "priority",
    "error",
    "tag",
    "attempt",
    "failures",
    "interruptions",
    "parent_id",
    "generation",
    "children",
    "open_children",
    "cron",
    "worker_id",
    "suspend_reason",
    "current_stage_name",
    "progress_text",
    "progress_percent",
)
"""The fields of a task that are columns as they stand."""


def _last_event_type(row: Row) -> EventType:
    """A claim writes task_started whatever failed before, a failure that the status changed; the row tells more."""
    last = EventType.CREATED if row.last_event_type is None else EventType(row.last_event_type)
    if last is EventType.STARTED and row.failures > 0:
        return EventType.RETRY_STARTED
    failed = row.last_outcome in (Outcome.FAILED, Outcome.TIMEOUT)
    return EventType.RETRY_SCHEDULED if last is EventType.STATUS_CHANGED and failed else last


def _seconds(stored: int | None, default: float) -> float:
    found = seconds(stored)
    return default if found is None else found


def moment(instant: int) -> Any:
    """An instant that is there, as an aware datetime."""
    return to_datetime(instant)
