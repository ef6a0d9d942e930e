"""Enqueue: one task or many, all or nothing, at most one statement for each run of tasks that are alike.

The statement resolves what a task inherits (its own options, the type's, its parent's; NULL means the default) and, on
PostgreSQL, tells idle workers in the same breath. A type that does not exist inserts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import InvalidInput, TaskTypeDraining, UnknownTaskType
from fibflow.logs import logger
from fibflow.model import DEFAULT_PRIORITY, NewTask, Options, TaskId
from fibflow.store.batch import rows, values
from fibflow.store.clock import from_datetime, micros, now
from fibflow.store.database import Session, statement, write
from fibflow.store.notices import CHANNEL, WAKE_INTERVAL
from fibflow.store.tables import task, task_type
from fibflow.store.tasktypes import option_columns

log = logger(__name__)

CHUNK = 5000
"""Payloads in one statement."""


@dataclass(frozen=True, slots=True)
class Parentage:
    """What children take from their parent: its ids, and the options of its own that they inherit."""

    parent_id: int
    root_id: int
    generation: int
    options: Options


@dataclass(frozen=True, slots=True)
class Tickage:
    """The cron task and the instant that a task is for."""

    cron_id: int
    tick: int


@dataclass(frozen=True, slots=True)
class _Alike:
    """What the tasks of one statement have in common."""

    type: str
    tag: str | None
    options: Options
    delay: int | None
    run_at: int | None


@statement
def enqueue(session: Session, new: NewTask) -> TaskId:
    """Store one task; its id. Raises InvalidInput, UnknownTaskType."""
    return insert_tasks(session, [new])[0]


@write
def enqueue_many(session: Session, tasks: Sequence[NewTask]) -> list[TaskId]:
    """Store all of the tasks or none; their ids in the same order. Raises InvalidInput, UnknownTaskType."""
    return insert_tasks(session, tasks)


def insert_tasks(
    session: Session, tasks: Sequence[NewTask], parentage: Parentage | None = None, tickage: Tickage | None = None
) -> list[TaskId]:
    """Insert tasks inside the caller's transaction; their ids in the same order."""
    ids: list[TaskId] = []
    for alike, payloads in _runs(tasks):
        for start in range(0, len(payloads), CHUNK):
            ids += _insert(session, alike, payloads[start : start + CHUNK], parentage, tickage)
    return ids


def _runs(tasks: Sequence[NewTask]) -> list[tuple[_Alike, list[str]]]:
    """All of the tasks, checked: runs that are alike, with their payloads as JSON text."""
    runs: list[tuple[_Alike, list[str]]] = []
    before = None
    for new in tasks:
        if before is None or not _says_the_same(new, before):
            alike = _alike(new)
            if not runs or runs[-1][0] != alike:
                runs.append((alike, []))
        runs[-1][1].append(encoding.encode(new.payload, "payload"))
        before = new
    return runs


def _says_the_same(new: object, before: NewTask) -> bool:
    """Whether a task was given the very objects of the one before, payload aside: then they need no second check."""
    return (
        isinstance(new, NewTask)
        and new.type is before.type
        and new.options is before.options
        and new.tag is before.tag
        and new.delay is before.delay
        and new.run_at is before.run_at
    )


def _alike(new: NewTask) -> _Alike:
    if not isinstance(new, NewTask):
        raise InvalidInput("tasks", new, "is not a task; give a NewTask, or child(...) in a handler")
    encoding.text(new.type, "type", longest=253)
    encoding.optional_text(new.tag, "tag", longest=253)
    encoding.check_options(new.options)
    if new.delay is not None and new.run_at is not None:
        raise InvalidInput("delay", new.delay, "and run_at were both given; give one of them")
    if new.delay is not None:
        encoding.number(new.delay, "delay", 0, encoding.LONGEST_DURATION)
    run_at = None if new.run_at is None else from_datetime(encoding.aware(new.run_at, "run_at"))
    return _Alike(new.type, new.tag, new.options, micros(new.delay), run_at)


def _insert(
    session: Session,
    alike: _Alike,
    payloads: Sequence[str],
    parentage: Parentage | None,
    tickage: Tickage | None,
) -> list[TaskId]:
    own = option_columns(alike.options)
    inherited = option_columns(parentage.options if parentage else Options())
    parameters: dict[str, Any] = {
        "namespace": session.namespace,
        "type": alike.type,
        "tag": alike.tag,
        "delay": alike.delay,
        "run_at": alike.run_at,
        "step": session.priority_step,
        "wake": _may_wake(session, hash(alike.type)),
        **own,
        **{f"parent_{name}": value for name, value in inherited.items()},
        "parent_id": parentage.parent_id if parentage else None,
        "root_id": parentage.root_id if parentage else None,
        "generation": parentage.generation if parentage else None,
        "cron_id": tickage.cron_id if tickage else None,
        "tick": tickage.tick if tickage else None,
    }
    found = _execute(session, parameters, payloads)
    if not found:
        raise _no_type(session, alike.type)
    session.after(log.debug, "task_created", type=alike.type, tasks=len(found), first=found[0])
    return sorted(found)


def _no_type(session: Session, name: str) -> UnknownTaskType:
    """Why a type takes no tasks: nothing has declared it, or its TaskType was deleted."""
    named = sa.and_(task_type.c.namespace == session.namespace, task_type.c.name == name)
    draining = session.connection.execute(sa.select(task_type.c.draining).where(named)).scalar()
    return (TaskTypeDraining if draining else UnknownTaskType)(name, session.namespace)


def _execute(session: Session, parameters: dict[str, Any], payloads: Sequence[str]) -> Sequence[TaskId]:
    single = len(payloads) == 1
    insert = _insert_one(session.postgresql) if single else _insert_many(session.postgresql)
    given = parameters | ({"payload": payloads[0]} if single else values(session, "p", {"payload": payloads}))
    if session.postgresql:
        return [id for id, _ in session.fetch(insert, given)]
    return session.connection.execute(insert, given).scalars().all()


def _may_wake(session: Session, key: int) -> bool:
    """Whether this process may tell of this type now; whoever was told looks again a little later."""
    moment = time.monotonic()
    if moment - session.wakes.last.get(key, 0.0) < WAKE_INTERVAL:
        return False
    session.wakes.last[key] = moment
    return True


@cache
def _insert_one(postgresql: bool) -> Any:
    """INSERT … SELECT of one task: without a list, an order and a CTE it costs a tenth less than of a list of one."""
    kind, when = _type().subquery("type"), _when().subquery("moment")
    columns = _columns(kind, when, _parameter("payload"))
    added = _added(columns, sa.select(*columns.values()).select_from(kind.join(when, sa.true())))
    return added.returning(_told(task.c.type_id)) if postgresql else added


@cache
def _insert_many(postgresql: bool) -> Any:
    """INSERT … SELECT of tasks that are alike, in the order given; the workers are told once."""
    given = rows(postgresql, "p", {"payload": sa.Text()})
    kind, when = _type().cte("type"), _when().cte("moment")
    columns = _columns(kind, when, given.c.payload)
    everything = given.join(kind, sa.true()).join(when, sa.true())
    added = _added(columns, sa.select(*columns.values()).select_from(everything).order_by(given.c.ord))
    return _and_wake(added, kind) if postgresql else added


def _added(columns: dict[str, sa.ColumnElement[Any]], source: sa.Select[Any]) -> Any:
    return sa.insert(task).from_select(list(columns), source).returning(task.c.id)


def _columns(kind: sa.FromClause, when: sa.FromClause, payload: sa.ColumnElement[Any]) -> dict[str, sa.ColumnElement[Any]]:
    chosen = {name: _inherited(kind, name) for name in INHERITED}
    priority = sa.func.coalesce(chosen["priority"], DEFAULT_PRIORITY)
    return {
        "type_id": kind.c.id,
        "state": sa.case((when.c.run_at <= when.c.now, "ready"), else_="scheduled"),
        "order_key": when.c.run_at - priority * sa.bindparam("step", type_=sa.BigInteger),
        **chosen,
        "priority": priority,
        "run_at": when.c.run_at,
        "created_at": when.c.now,
        "payload": payload,
        **{name: _parameter(name) for name in ("tag", "parent_id", "root_id", "generation", "cron_id", "tick")},
    }


INHERITED = ("timeout", "max_attempts", "backoff", "backoff_factor", "max_backoff", "priority")


def _parameter(name: str, column: str | None = None) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=task.c[column or name].type)


def _type() -> sa.Select[Any]:
    named = sa.and_(task_type.c.namespace == sa.bindparam("namespace"), task_type.c.name == sa.bindparam("type"))
    named = sa.and_(named, ~task_type.c.draining)
    return sa.select(task_type.c.id, *(task_type.c[name] for name in INHERITED)).where(named)


def _when() -> sa.Select[Any]:
    """The moment of the statement, and when the tasks are due."""
    moment = sa.select(now().label("now")).subquery("clock")
    delay = sa.func.coalesce(sa.bindparam("delay", type_=sa.BigInteger), 0)
    run_at = sa.func.coalesce(_parameter("run_at"), moment.c.now + delay)
    return sa.select(moment.c.now, run_at.label("run_at"))


def _inherited(kind: sa.FromClause, name: str) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(_parameter(name), kind.c[name], _parameter(f"parent_{name}", name))


def _and_wake(added: Any, kind: sa.FromClause) -> sa.Select[Any]:
    """The same INSERT, which also tells the workers, once, when the transaction commits."""
    inserted = added.cte("added")
    once = sa.select(_told(sa.select(kind.c.id).scalar_subquery())).scalar_subquery()
    return sa.select(inserted.c.id, once)


def _told(type_id: sa.ColumnElement[int]) -> sa.ColumnElement[Any]:
    """The workers are told of a type, if this process may tell of it now."""
    told = sa.func.pg_notify(CHANNEL, sa.cast(type_id, sa.Text))
    return sa.case((sa.bindparam("wake", type_=sa.Boolean), told))
