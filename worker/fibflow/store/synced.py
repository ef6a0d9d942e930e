"""What an operator stores of resources: the rows as values, read to be compared and written by whoever leads.

A row's identity is (namespace, kind, metadata.name); a task type's is in the column `resource`, for its name is what code
uses. Every write checks the lead first (installation.py), stores all of its rows or none, and writes nothing where a
row is as wanted already. None of them ends a pause that somebody made at run time.

Which rows are wanted is decided in the operator. Cron tasks are in synced_crons.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from fibflow import encoding
from fibflow.model import OWN_POOL, Options
from fibflow.scaling import Rule
from fibflow.store import rules
from fibflow.store.clock import micros, seconds
from fibflow.store.control import cancel
from fibflow.store.database import Session, read, write
from fibflow.store.installation import Lead, check_lead
from fibflow.store.tables import task, task_type, worker_pool
from fibflow.store.tasktypes import OPTION_NAMES, Declaration, check_declaration, insert_or_nothing, update_type

REASON_DELETED = "TypeDeleted"


class Name(NamedTuple):
    """Where a resource is: its namespace and its metadata.name."""

    namespace: str
    name: str


class DeletionPolicy(StrEnum):
    """What becomes of a type's tasks when its TaskType is deleted."""

    RETAIN = "Retain"
    DRAIN = "Drain"
    CANCEL = "Cancel"


@dataclass(frozen=True, slots=True)
class TypeRow:
    """What a TaskType says. `name` is what code uses; `rule` is that of its own workers."""

    resource: Name
    name: str
    options: Options
    max_concurrent_tasks: int | None
    description: str | None
    suspended: bool
    deletion_policy: DeletionPolicy
    pool: str | None = None
    rule: Rule | None = None

    @property
    def declaration(self) -> Declaration:
        limit = self.max_concurrent_tasks
        return Declaration(self.name, self.options, limit, self.description, self.suspended, self.pool)


@dataclass(frozen=True, slots=True)
class PoolRow:
    """What a WorkerPool says. `drain` in seconds."""

    resource: Name
    app: str
    image: str | None
    slots: int
    replicas: int
    drain: int
    rule: Rule | None = None


# ── task types ────────────────────────────────────────────────────────────────────────────────────────────────────


@read
def stored_types(session: Session, names: Collection[Name] | None = None) -> dict[Name, TypeRow]:
    """The rows that TaskTypes have, of these resources or of all."""
    query = sa.select(task_type).where(task_type.c.resource.is_not(None))
    if names is not None:
        query = query.where(among(task_type.c.resource, task_type, names))
    found = [_type_row(row) for row in session.connection.execute(query).mappings()]
    return {row.resource: row for row in found}


def _type_row(row: sa.RowMapping) -> TypeRow:
    said: Any = encoding.decode(row["resource_options"])
    return TypeRow(
        resource=Name(row["namespace"], row["resource"]),
        name=row["name"],
        options=Options(**{name: said[name] for name in OPTION_NAMES if name in said}),
        max_concurrent_tasks=said.get("max_concurrent_tasks"),
        description=said.get("description"),
        suspended=row["suspended"],
        deletion_policy=DeletionPolicy(row["deletion_policy"]),
        pool=row["pool"],
        rule=rules.read(row["scaling"]),
    )


@read
def code_types(session: Session, names: Collection[Name]) -> set[Name]:
    """Which of these names are types that only code declares, and that take new tasks."""
    chosen = sa.and_(task_type.c.resource.is_(None), ~task_type.c.draining, among(task_type.c.name, task_type, names))
    query = sa.select(task_type.c.namespace, task_type.c.name).where(chosen)
    return {Name(row.namespace, row.name) for row in session.connection.execute(query)}


@write
def sync_types(session: Session, lead: Lead, rows: Sequence[TypeRow]) -> None:
    """Store what TaskTypes say. A row of another resource under that name is taken over. Raises LeadLost, InvalidInput."""
    check_lead(session, lead)
    for row in sorted(rows, key=lambda row: (row.resource.namespace, row.name)):
        check_declaration(row.declaration)
        _sync_type(session, row)


def _sync_type(session: Session, row: TypeRow) -> None:
    namespace, resource = row.resource
    _release(session, _of_resources([row.resource]) & (task_type.c.name != row.name))
    fresh = {"namespace": namespace, "name": row.name, "source": "resource"}
    session.connection.execute(insert_or_nothing(session, task_type), [fresh])
    named = sa.and_(task_type.c.namespace == namespace, task_type.c.name == row.name)
    stored = dict(session.connection.execute(sa.select(task_type).where(named).with_for_update()).mappings().one())
    more = {"resource": resource, "deletion_policy": str(row.deletion_policy), "scaling": rules.written(row.rule)}
    update_type(session, stored, row.declaration, "resource", more)


@write
def forget_types(session: Session, lead: Lead, names: Collection[Name]) -> None:
    """The TaskTypes are gone: each row goes on, drains or is cancelled, by the policy last synced. Raises LeadLost."""
    check_lead(session, lead)
    _release(session, _of_resources(names))


def _of_resources(names: Collection[Name]) -> sa.ColumnElement[bool]:
    return among(task_type.c.resource, task_type, names)


def _release(session: Session, which: sa.ColumnElement[bool]) -> None:
    stays = task_type.c.deletion_policy == str(DeletionPolicy.RETAIN)
    session.connection.execute(sa.update(task_type).where(which).values(resource=None, draining=~stays))


_waits = task.c.state.in_(("scheduled", "ready"))
_cancelled = sa.and_(
    task_type.c.draining,
    sa.or_(
        task_type.c.deletion_policy == sa.text("'Cancel'"),
        sa.and_(task_type.c.pool.startswith(OWN_POOL, autoescape=True), _waits),
    ),
)
"""What is to end with its type: all of it under the policy Cancel, and what waits if the type's own workers go with it."""


@read
def tasks_to_cancel(session: Session) -> bool:
    """Whether a type that is gone has tasks that are to be cancelled."""
    query = sa.select(task.c.id).join(task_type, task_type.c.id == task.c.type_id).where(_cancelled).limit(1)
    return session.connection.execute(query).first() is not None


@write
def cancel_deleted(session: Session, lead: Lead, limit: int = 100) -> int:
    """Cancel tasks that end with their types, at most `limit`; how many. Raises LeadLost."""
    check_lead(session, lead)
    query = (
        sa.select(task.c.id, task_type.c.namespace)
        .join(task_type, task_type.c.id == task.c.type_id)
        .where(_cancelled)
        .order_by(task.c.id.desc())  # a child before its parent: the one order in which tasks are locked
        .limit(limit)
        .with_for_update(of=task, skip_locked=True)  # what others hold is left to the next time
    )
    found = session.connection.execute(query).all()
    for row in found:
        cancel(_in(session, row.namespace), row.id, REASON_DELETED)
    return len(found)


def _in(session: Session, namespace: str) -> Session:
    return Session(session.connection, namespace, session.priority_step, session.wakes, session.later)


# ── worker pools ──────────────────────────────────────────────────────────────────────────────────────────────────


@read
def stored_pools(session: Session, names: Collection[Name] | None = None) -> dict[Name, PoolRow]:
    """The rows of WorkerPools, of these or of all."""
    query = sa.select(worker_pool)
    if names is not None:
        query = query.where(among(worker_pool.c.name, worker_pool, names))
    found = [_pool_row(row) for row in session.connection.execute(query).mappings()]
    return {row.resource: row for row in found}


def _pool_row(row: sa.RowMapping) -> PoolRow:
    plain = {name: row[name] for name in ("app", "image", "slots", "replicas")}
    drain, rule = int(seconds(row["drain"]) or 0), rules.read(row["scaling"])
    return PoolRow(resource=Name(row["namespace"], row["name"]), drain=drain, rule=rule, **plain)


@write
def sync_pools(session: Session, lead: Lead, rows: Sequence[PoolRow]) -> None:
    """Store what WorkerPools say. Raises LeadLost."""
    check_lead(session, lead)
    for row in sorted(rows, key=lambda row: row.resource):
        key = {"namespace": row.resource.namespace, "name": row.resource.name}
        said = {name: getattr(row, name) for name in ("app", "image", "slots", "replicas")}
        said |= {"drain": micros(row.drain), "scaling": rules.written(row.rule)}
        added = insert_or_nothing(session, worker_pool).values(key | said).returning(worker_pool.c.name)
        if session.connection.execute(added).first() is None:
            session.connection.execute(_changed(key, said))


def _changed(key: Mapping[str, str], said: Mapping[str, Any]) -> sa.Update:
    named = [worker_pool.c[name] == value for name, value in key.items()]
    differs = sa.or_(*(worker_pool.c[name].is_distinct_from(value) for name, value in said.items()))
    return sa.update(worker_pool).where(*named, differs).values(**said)


@write
def forget_pools(session: Session, lead: Lead, names: Collection[Name]) -> None:
    """The WorkerPools are gone; the tasks that they would have run wait. Raises LeadLost."""
    check_lead(session, lead)
    session.connection.execute(sa.delete(worker_pool).where(among(worker_pool.c.name, worker_pool, names)))


def among(column: sa.ColumnElement[str], table: sa.Table, names: Iterable[Name]) -> sa.ColumnElement[bool]:
    """The rows whose (namespace, column) is one of the names."""
    inside: dict[str, list[str]] = {}
    for namespace, name in names:
        inside.setdefault(namespace, []).append(name)
    found = [sa.and_(table.c.namespace == namespace, column.in_(sorted(each))) for namespace, each in sorted(inside.items())]
    return sa.or_(sa.false(), *found)
