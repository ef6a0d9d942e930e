"""Readings: one task, tasks by filter, a parent's children, counts, workers. Nothing here writes or locks.

How a row becomes a task is the story of snapshot.py; what happened to a task, of audit.py and attempts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import NotFound
from fibflow.model import Child, Outcome, Status, Task, TaskId, WorkerId, WorkerStatus
from fibflow.records import Page, Worker
from fibflow.store import snapshot
from fibflow.store.clock import to_datetime
from fibflow.store.database import Session, read
from fibflow.store.paging import Paging, Where, between, cut, equal, identity, optional_identity, optional_member, paging
from fibflow.store.snapshot import TABLE_NAMED, branch, kinds_of, moment, to_task, united
from fibflow.store.tables import cron_task, task, task_type, worker


@dataclass(frozen=True, slots=True)
class Statistic:
    """How many tasks of a tag and a type have a status."""

    tag: str | None
    type: str
    status: Status
    count: int


@read
def get(session: Session, task_id: int) -> Task:
    """A task. Raises NotFound."""
    return snapshot.one(session, task_id)


@dataclass(frozen=True, slots=True)
class _Filters:
    """What the tasks of a page have in common; None for anything."""

    namespace: str
    type: str | None
    status: Status | None
    last_outcome: Outcome | None
    tag: str | None
    worker_id: int | None
    parent_id: int | None
    root_id: int | None
    suspend_reason: str | None
    created_after: datetime | None
    created_before: datetime | None
    cron: str | None

    def of(self, kind: str) -> Where:
        """The filters in one branch's own columns."""
        columns = TABLE_NAMED[kind].c
        where = between(columns.created_at, "created_", self.created_after, self.created_before)
        where += equal(task_type.c.name, self.type)
        for name in ("last_outcome", "tag", "worker_id", "parent_id"):
            where += equal(columns[name], getattr(self, name))
        if self.suspend_reason is not None:
            where.append(snapshot.suspend_reason_is(kind, self.suspend_reason))
        if self.status is not None:
            where.append(snapshot.status_is(kind, self.status))
        if self.root_id is not None:
            where.append(snapshot.in_workflow(TABLE_NAMED[kind], self.root_id))
        if self.cron is not None:
            where += [columns.cron_id.is_not(None), cron_task.c.name == self.cron]
        return where


@read
def find(
    session: Session,
    *,
    namespace: str | None = None,
    type: str | None = None,
    status: Status | str | None = None,
    last_outcome: Outcome | str | None = None,
    tag: str | None = None,
    worker_id: int | None = None,
    parent_id: int | None = None,
    root_id: int | None = None,
    suspend_reason: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    cron: str | None = None,
    limit: int | None = 100,
    offset: int = 0,
    order: str = "asc",
) -> Page[Task]:
    """Tasks by id; the filters are combined with AND. Raises InvalidInput.

    Without a namespace, those of the client's own. `root_id` finds the root itself too. Created from `created_after` to
    `created_before`, both included. A limit of None finds all.
    """
    filters = _Filters(
        namespace=encoding.optional_text(namespace, "namespace") or session.namespace,
        type=encoding.optional_text(type, "type"),
        status=optional_member(Status, status, "status"),
        last_outcome=optional_member(Outcome, last_outcome, "last_outcome"),
        tag=encoding.optional_text(tag, "tag"),
        worker_id=optional_identity(worker_id, "worker_id"),
        parent_id=optional_identity(parent_id, "parent_id"),
        root_id=optional_identity(root_id, "root_id"),
        suspend_reason=encoding.optional_text(suspend_reason, "suspend_reason"),
        created_after=created_after,
        created_before=created_before,
        cron=encoding.optional_text(cron, "cron"),
    )
    return _page(session, filters, paging(limit, offset, order))


def _page(session: Session, filters: _Filters, part: Paging) -> Page[Task]:
    """Each branch gives as many rows as the page could take from it; then the page is cut."""
    branches, counts = [], []
    for kind in kinds_of(filters.status):
        where = filters.of(kind)
        key = TABLE_NAMED[kind].c.id
        head = branch(filters.namespace, kind).where(*where).order_by(*part.ordered(key))
        branches.append(sa.select(cut(head, part.end).subquery(kind)))
        count = branch(filters.namespace, kind, ("id", "cron")).where(*where).subquery(f"all_{kind}")
        counts.append(sa.select(sa.func.count()).select_from(count).scalar_subquery())
    rows = sa.union_all(*branches).subquery("rows")
    query = cut(sa.select(rows).order_by(*part.ordered(rows.c.id)), part.limit, part.offset)
    items = [to_task(row) for row in session.connection.execute(query)]
    total = sum(session.connection.execute(sa.select(*counts)).one())
    return Page(items, total, part.limit, part.offset)


@read
def children(session: Session, task_id: int) -> list[Child]:
    """The children of a task's latest generation, by id; none for a task that spawned none. Raises NotFound."""
    parent = united(session.namespace, [identity(task_id)], ("spawned",), workflow=False)
    row = session.connection.execute(sa.select(parent)).first()
    if row is None:
        raise NotFound("task", task_id, session.namespace)
    return children_of(session, task_id, row.spawned)


@read
def children_of(session: Session, task_id: int, spawned: int | None) -> list[Child]:
    """The children that a parent made in its attempt `spawned`, as its claim tells it; by id."""
    if spawned is None:
        return []
    columns = ("id", "type", "status", "result", "error")
    branches = [
        branch(session.namespace, kind, columns).where(table.c.parent_id == task_id, table.c.generation == spawned)
        for kind, table in TABLE_NAMED.items()
    ]
    rows = sa.union_all(*branches).subquery("rows")
    return [_child(row) for row in session.connection.execute(sa.select(rows).order_by(rows.c.id))]


def _child(row: sa.Row[Any]) -> Child:
    return Child(TaskId(row.id), row.type, Status(row.status), encoding.decode(row.result), row.error)


@read
def statistics(
    session: Session, *, tag: str | None = None, type: str | None = None, status: Status | str | None = None
) -> list[Statistic]:
    """Counts by tag, type and status, in that order; what has no tag comes first. Raises InvalidInput."""
    encoding.optional_text(tag, "tag")
    encoding.optional_text(type, "type")
    chosen = optional_member(Status, status, "status")
    branches = []
    for kind in kinds_of(chosen):
        where = equal(TABLE_NAMED[kind].c.tag, tag) + equal(task_type.c.name, type)
        if chosen is not None:
            where.append(snapshot.status_is(kind, chosen))
        branches.append(branch(session.namespace, kind, ("tag", "type", "status")).where(*where))
    rows = sa.union_all(*branches).subquery("rows")
    keys = (rows.c.tag, rows.c.type, rows.c.status)
    found = session.connection.execute(sa.select(*keys, sa.func.count()).group_by(*keys)).all()
    counted = [Statistic(tag, type, Status(status), count) for tag, type, status, count in found]
    return sorted(counted, key=lambda one: (one.tag or "", one.type, one.status))


@read
def workers(session: Session, *, pod_id: str | None = None, status: WorkerStatus | str | None = None) -> list[Worker]:
    """The namespace's workers, those that ended too until they are forgotten, by id; with what each runs now.

    Raises InvalidInput.
    """
    where = equal(worker.c.pod_id, encoding.optional_text(pod_id, "pod_id"))
    where += equal(worker.c.status, optional_member(WorkerStatus, status, "status"))
    owned = (
        sa.select(task.c.worker_id, sa.func.count().label("running"))
        .where(task.c.state == sa.text("'running'"))
        .group_by(task.c.worker_id)
        .subquery("owned")
    )
    query = (
        sa.select(worker, sa.func.coalesce(owned.c.running, 0).label("running"))
        .outerjoin(owned, owned.c.worker_id == worker.c.id)
        .where(worker.c.namespace == session.namespace, *where)
        .order_by(worker.c.id)
    )
    return [_worker(row) for row in session.connection.execute(query)]


def _worker(row: sa.Row[Any]) -> Worker:
    return Worker(
        id=WorkerId(row.id),
        namespace=row.namespace,
        pod_id=row.pod_id,
        host=row.host,
        pid=row.pid,
        status=WorkerStatus(row.status),
        slots=row.slots,
        paused=row.paused,
        registered_at=moment(row.registered_at),
        renewed_at=moment(row.renewed_at),
        expires_at=moment(row.expires_at),
        ended_at=to_datetime(row.ended_at),
        ended_by=None if row.ended_by is None else WorkerId(row.ended_by),
        running=row.running,
    )
