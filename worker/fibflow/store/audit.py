"""Events: what happened to a task or a workflow, in order. Most of it is derived (derived.py) and stored nowhere.

A task's events are ordered by (attempt, phase, event id), a workflow's by time, task, then the same. The phases of an
attempt:

    0  created (attempt 0)
    1  claimed
    2  started, or started again after a failure
    3  progress, checkpoint                                                                    (stored)
    4  the end: completed, failed, timed out; and, as stored events: recovered, given back (task_status_changed), suspended,
       subtasks created, paused, cancelled
    5  what follows from the end: retry scheduled, permanently failed
    6  between attempts: resumed, redriven, paused, cancelled                                  (stored)
    7  stale writes that were refused, from `stale_write`

Clocks of two statements may tie; the key does not. What an event says is in telling.py, attempts themselves are the story
of attempts.py, what they add up to, of summary.py, and both beside their task, of views.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fibflow.errors import InvalidInput
from fibflow.model import Event, EventType, Status, TaskId, WorkerId
from fibflow.records import Page
from fibflow.store.attempts import Scope, scope
from fibflow.store.database import Session, read
from fibflow.store.derived import history
from fibflow.store.paging import Where, between, equal, member, optional_identity, page, paging
from fibflow.store.snapshot import moment
from fibflow.store.telling import message_of, metadata_of


@dataclass(frozen=True, slots=True)
class _Filters:
    """What the events of a page have in common; None for anything."""

    types: list[str] | None
    worker_id: int | None
    attempt: int | None
    stage: int | None
    parent_id: int | None
    after: datetime | None
    before: datetime | None

    def of(self, rows: sa.FromClause) -> Where:
        where = equal(rows.c.worker_id, optional_identity(self.worker_id, "worker_id"))
        where += equal(rows.c.attempt, optional_identity(self.attempt, "attempt"))
        where += equal(rows.c.stage, optional_identity(self.stage, "stage"))
        where += equal(rows.c.parent_id, optional_identity(self.parent_id, "parent_id"))
        where += between(rows.c.at, "", self.after, self.before)
        return where if self.types is None else [*where, rows.c.type.in_(self.types)]


@read
def events(
    session: Session,
    task_id: int,
    *,
    types: Iterable[EventType | str] | None = None,
    worker_id: int | None = None,
    attempt: int | None = None,
    stage: int | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
    limit: int | None = 100,
    offset: int = 0,
    order: str = "asc",
) -> Page[Event]:
    """A task's events, from `after` to `before`, both included. Raises NotFound, InvalidInput."""
    part = paging(limit, offset, order)
    filters = _Filters(_names(types), worker_id, attempt, stage, None, after, before)
    rows = _matching(session, scope(session, task_id, workflow=False), filters)
    return page(session, rows, KEY, part, to_event)


@read
def workflow_events(
    session: Session,
    root_id: int,
    *,
    types: Iterable[EventType | str] | None = None,
    worker_id: int | None = None,
    attempt: int | None = None,
    stage: int | None = None,
    parent_id: int | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
    limit: int | None = 100,
    offset: int = 0,
    order: str = "asc",
) -> Page[Event]:
    """The events of all tasks of a workflow, or of one parent's children, by time. Raises NotFound, InvalidInput."""
    part = paging(limit, offset, order)
    filters = _Filters(_names(types), worker_id, attempt, stage, parent_id, after, before)
    rows = _matching(session, scope(session, root_id, workflow=True), filters)
    return page(session, rows, ("at", "task_id", *KEY), part, to_event)


def _names(types: Iterable[EventType | str] | None) -> list[str] | None:
    """One type's name is a list of one."""
    names = [types] if isinstance(types, str) else types
    if names is not None and not isinstance(names, Iterable):
        raise InvalidInput("types", names, "is no list; name the types of events")
    return None if names is None else [member(EventType, name, "types").value for name in names]


KEY = ("attempt", "phase", "event_id", "verb")


def _matching(session: Session, where_to_look: Scope, filters: _Filters) -> sa.Subquery:
    rows = history(session.namespace, where_to_look)
    return sa.select(rows).where(*filters.of(rows)).subquery("matching")


@dataclass(frozen=True, slots=True)
class Totals:
    """The events in scope, counted; when the last one was, and which workers they name."""

    events: int
    checkpoints: int
    last_event_time: datetime
    workers: tuple[WorkerId, ...]


def totals(session: Session, where_to_look: Scope) -> Totals:
    """All events in scope, in figures."""
    rows = history(session.namespace, where_to_look)
    checkpoint = sa.case((rows.c.type == EventType.CHECKPOINT.value, 1))
    counts = sa.select(sa.func.count(), sa.func.count(checkpoint), sa.func.max(rows.c.at))
    events, checkpoints, last = session.connection.execute(counts.select_from(rows)).one()
    named = sa.select(rows.c.worker_id).where(rows.c.worker_id.is_not(None)).distinct().order_by(rows.c.worker_id)
    workers = tuple(WorkerId(worker_id) for worker_id in session.connection.execute(named).scalars())
    return Totals(events, checkpoints, moment(last), workers)


def to_event(row: sa.Row[Any]) -> Event:
    """The value of a row of `history`."""
    return Event(
        task_id=TaskId(row.task_id),
        root_id=TaskId(row.root_id),
        parent_id=None if row.parent_id is None else TaskId(row.parent_id),
        task_type=row.task_type,
        type=EventType(row.type),
        from_status=None if row.from_status is None else Status(row.from_status),
        to_status=None if row.to_status is None else Status(row.to_status),
        stage=row.stage,
        attempt=row.attempt,
        worker_id=None if row.worker_id is None else WorkerId(row.worker_id),
        time=moment(row.at),
        message=message_of(row),
        metadata=metadata_of(row),
    )
