"""Attempts: those that ended, from their rows, and the open one, which is the running task's own row.

What happened within them is the story of audit.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fibflow.errors import InvalidInput, NotFound
from fibflow.model import Attempt, Outcome, TaskId, WorkerId
from fibflow.records import Page
from fibflow.store.clock import to_datetime
from fibflow.store.database import Session, read
from fibflow.store.paging import (
    Where,
    between,
    equal,
    identity,
    optional_identity,
    optional_member,
    page,
    paging,
)
from fibflow.store.snapshot import in_workflow, moment, united
from fibflow.store.tables import attempt, task, task_final, worker


@dataclass(frozen=True, slots=True)
class Scope:
    """One task, or its whole workflow: where a reading looks."""

    task_id: int
    workflow: bool

    def hot(self) -> sa.ColumnElement[bool]:
        return in_workflow(task, self.task_id) if self.workflow else task.c.id == self.task_id

    def of(self, task_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        """The rows of another table that belong to it."""
        if not self.workflow:
            return task_id == self.task_id
        members = [sa.select(table.c.id).where(in_workflow(table, self.task_id)) for table in (task, task_final)]
        return task_id.in_(sa.union_all(*members))


def scope(session: Session, task_id: int, *, workflow: bool) -> Scope:
    """Raises NotFound for a task that is not there, InvalidInput for the workflow of a task that has a parent."""
    field = "root_id" if workflow else "task_id"
    chosen = united(session.namespace, [identity(task_id, field)], ("root_id",), workflow=False)
    row = session.connection.execute(sa.select(chosen)).first()
    if row is None:
        raise NotFound("task", task_id, session.namespace)
    if workflow and row.root_id is not None:
        raise InvalidInput("root_id", task_id, f"is no root; the root of its workflow is {row.root_id}")
    return Scope(task_id, workflow)


@dataclass(frozen=True, slots=True)
class _Filters:
    """What the attempts of a page have in common; None for anything."""

    worker_id: int | None = None
    outcome: Outcome | str | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    ended_after: datetime | None = None
    ended_before: datetime | None = None
    open_only: bool = False

    def of(self, each: sa.CTE) -> Where:
        where = equal(each.c.worker_id, optional_identity(self.worker_id, "worker_id"))
        where += equal(each.c.outcome, optional_member(Outcome, self.outcome, "outcome"))
        where += between(each.c.started_at, "started_", self.started_after, self.started_before)
        where += between(each.c.ended_at, "ended_", self.ended_after, self.ended_before)
        return [*where, each.c.ended_at.is_(None)] if self.open_only else where


@read
def attempts(
    session: Session,
    task_id: int,
    *,
    worker_id: int | None = None,
    outcome: Outcome | str | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    ended_after: datetime | None = None,
    ended_before: datetime | None = None,
    open_only: bool = False,
    limit: int | None = 100,
    offset: int = 0,
    order: str = "asc",
) -> Page[Attempt]:
    """A task's attempts, by number; what is `…_after` and `…_before` includes the instant. Raises NotFound, InvalidInput."""
    part = paging(limit, offset, order)
    filters = _Filters(worker_id, outcome, started_after, started_before, ended_after, ended_before, open_only)
    rows = _matching(scope(session, task_id, workflow=False), filters)
    return page(session, rows, ORDER, part, to_attempt)


@read
def workflow_attempts(
    session: Session,
    root_id: int,
    *,
    worker_id: int | None = None,
    outcome: Outcome | str | None = None,
    started_after: datetime | None = None,
    started_before: datetime | None = None,
    ended_after: datetime | None = None,
    ended_before: datetime | None = None,
    open_only: bool = False,
    limit: int | None = 100,
    offset: int = 0,
    order: str = "asc",
) -> Page[Attempt]:
    """The attempts of all tasks of a workflow, by their start. Raises NotFound, InvalidInput."""
    part = paging(limit, offset, order)
    filters = _Filters(worker_id, outcome, started_after, started_before, ended_after, ended_before, open_only)
    rows = _matching(scope(session, root_id, workflow=True), filters)
    return page(session, rows, ("started_at", *ORDER), part, to_attempt)


COLUMNS = (
    "task_id",
    "attempt",
    "stage",
    "failures",
    "worker_id",
    "started_at",
    "ended_at",
    "outcome",
    "became",
    "ended_by",
    "error",
)
ORDER = ("task_id", "attempt")


def _matching(where_to_look: Scope, filters: _Filters) -> sa.Subquery:
    """The attempts in scope that match, each with its worker's pod (None for a worker that was forgotten)."""
    each = united_attempts(where_to_look).cte("each_attempt")
    query = sa.select(each, worker.c.pod_id).outerjoin_from(each, worker, worker.c.id == each.c.worker_id)
    return query.where(*filters.of(each)).subquery("matching")


def united_attempts(where_to_look: Scope) -> sa.CompoundSelect[Any]:
    """The ended and the open attempts in scope, with COLUMNS."""
    ended = sa.select(*(attempt.c[name] for name in COLUMNS)).where(where_to_look.of(attempt.c.task_id))
    known = {"task_id": task.c.id, "started_at": task.c.claimed_at, "error": None}
    opened = [known.get(name, task.c.get(name)) for name in COLUMNS]
    typed = [
        (sa.cast(sa.null(), attempt.c[name].type) if column is None else column).label(name)
        for name, column in zip(COLUMNS, opened, strict=True)
    ]
    running = sa.select(*typed).where(task.c.state == sa.text("'running'"), where_to_look.hot())
    return sa.union_all(ended, running)


def all_attempts(session: Session, where_to_look: Scope) -> list[Attempt]:
    """Every attempt in scope, by task and number."""
    rows = _matching(where_to_look, _Filters())
    query = sa.select(rows).order_by(*(rows.c[name] for name in ORDER))
    return [to_attempt(row) for row in session.connection.execute(query)]


def to_attempt(row: sa.Row[Any]) -> Attempt:
    return Attempt(
        task_id=TaskId(row.task_id),
        attempt=row.attempt,
        stage=row.stage,
        worker_id=WorkerId(row.worker_id),
        pod_id=row.pod_id,
        started_at=moment(row.started_at),
        ended_at=to_datetime(row.ended_at),
        outcome=None if row.outcome is None else Outcome(row.outcome),
        error=row.error,
        ended_by=None if row.ended_by is None else WorkerId(row.ended_by),
    )
