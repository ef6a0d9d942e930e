"""The INSERT of a task or of many that are alike: it names what is said of them, and nothing else.

It resolves what a task inherits (its own options, the type's, its parent's; NULL means the default) and, on PostgreSQL,
tells idle workers in the same breath; on SQLite it returns the type that they are to be told of. Most tasks say little of
themselves: parameters that are not sent, `coalesce` that is not evaluated and columns that are not named were a fifth of a
statement's CPU (docs/decisions/0005). What may be said is checked by enqueue.py.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from fibflow.model import DEFAULT_PRIORITY
from fibflow.store.batch import rows
from fibflow.store.clock import now
from fibflow.store.notices import CHANNEL
from fibflow.store.tables import task, task_type

Said = frozenset[str]
"""The names of what is said: `tag`, `trace`, `delay`, `run_at`, options, `parent_…` of options, ids of parent or tick."""

INHERITED = ("timeout", "max_attempts", "backoff", "backoff_factor", "max_backoff", "priority")
OWN = ("tag", "parent_id", "root_id", "generation", "cron_id", "tick", "trace")

SHAPES = 256
"""Statements that are kept; a program says a handful of different things of its tasks."""


@lru_cache(SHAPES)
def of_one(postgresql: bool, said: Said) -> Any:
    """INSERT … SELECT of one task: without a list, an order and a CTE it costs a tenth less than of a list of one."""
    kind, moment = _type().subquery("type"), _moment(said).subquery("moment")
    columns = _columns(kind, moment, _parameter("payload"), said)
    added = _added(columns, sa.select(*columns.values()).select_from(kind.join(moment, sa.true())))
    return added.returning(_told(task.c.type_id) if postgresql else task.c.type_id)


@lru_cache(SHAPES)
def of_many(postgresql: bool, said: Said) -> Any:
    """INSERT … SELECT of tasks that are alike, in the order given; the workers are told once.

    The clock is asked once, too: for every row it was a seventh of the cost.
    """
    given = rows(postgresql, "p", {"payload": sa.Text()})
    kind, moment = _type().cte("type"), _moment(said).cte("moment").prefix_with("MATERIALIZED")
    columns = _columns(kind, moment, given.c.payload, said)
    everything = given.join(kind, sa.true()).join(moment, sa.true())
    added = _added(columns, sa.select(*columns.values()).select_from(everything).order_by(given.c.ord))
    return _and_wake(added, kind) if postgresql else added.returning(task.c.type_id)


def _added(columns: dict[str, sa.ColumnElement[Any]], source: sa.Select[Any]) -> Any:
    return sa.insert(task).from_select(list(columns), source).returning(task.c.id)


def _columns(
    kind: sa.FromClause, moment: sa.FromClause, payload: sa.ColumnElement[Any], said: Said
) -> dict[str, sa.ColumnElement[Any]]:
    chosen = {name: _inherited(kind, name, said) for name in INHERITED}
    priority = sa.func.coalesce(chosen["priority"], sa.literal_column(str(DEFAULT_PRIORITY)))
    return {
        "type_id": kind.c.id,
        "state": _state(moment, said),
        "order_key": moment.c.run_at - priority * sa.bindparam("step", type_=sa.BigInteger),
        **chosen,
        "priority": priority,
        "run_at": moment.c.run_at,
        "created_at": moment.c.now,
        "payload": payload,
        **{name: _parameter(name) for name in OWN if name in said},
    }


def _parameter(name: str, column: str | None = None) -> sa.BindParameter[Any]:
    return sa.bindparam(name, type_=task.c[column or name].type)


def _inherited(kind: sa.FromClause, name: str, said: Said) -> sa.ColumnElement[Any]:
    own = [_parameter(name)] if name in said else []
    parents = [_parameter(f"parent_{name}", name)] if f"parent_{name}" in said else []
    return sa.func.coalesce(*own, kind.c[name], *parents) if own or parents else kind.c[name]


def _type() -> sa.Select[Any]:
    named = sa.and_(task_type.c.namespace == sa.bindparam("namespace"), task_type.c.name == sa.bindparam("type"))
    named = sa.and_(named, ~task_type.c.draining)
    return sa.select(task_type.c.id, *(task_type.c[name] for name in INHERITED)).where(named)


def _moment(said: Said) -> sa.Select[Any]:
    """The moment of the statement, and when the tasks are due."""
    clock = sa.select(now().label("now")).subquery("clock")
    run_at: sa.ColumnElement[Any] = clock.c.now
    if "run_at" in said:
        run_at = _parameter("run_at")
    elif "delay" in said:
        run_at = clock.c.now + sa.bindparam("delay", type_=sa.BigInteger)
    return sa.select(clock.c.now, run_at.label("run_at"))


def _state(moment: sa.FromClause, said: Said) -> sa.ColumnElement[Any]:
    """A task of which nothing is said is due at once."""
    ready = sa.literal_column("'ready'", sa.Text)
    if said.isdisjoint(("run_at", "delay")):
        return ready
    return sa.case((moment.c.run_at <= moment.c.now, ready), else_=sa.literal_column("'scheduled'", sa.Text))


def _and_wake(added: Any, kind: sa.FromClause) -> sa.Select[Any]:
    """The same INSERT, which also tells the workers, once, when the transaction commits."""
    inserted = added.cte("added")
    once = sa.select(_told(sa.select(kind.c.id).scalar_subquery())).scalar_subquery()
    return sa.select(inserted.c.id, once)


def _told(type_id: sa.ColumnElement[int]) -> sa.ColumnElement[Any]:
    """The workers are told of a type, if this process may tell of it now."""
    told = sa.func.pg_notify(sa.literal_column(f"'{CHANNEL}'"), sa.cast(type_id, sa.Text))
    return sa.case((sa.bindparam("wake", type_=sa.Boolean), told))
