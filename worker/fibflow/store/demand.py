"""What the types of WorkerPools ask for: what waits and runs, what comes in, how long it takes, when a tick is due.

Read for whoever decides how many workers there should be; the decision is in fibflow.scaling. With no worker left nobody
promotes what is due or decides ticks: `advance` does both for a namespace, as any worker would.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.model import SECOND
from fibflow.scaling import Load
from fibflow.store import deciding, outlook
from fibflow.store.clock import now
from fibflow.store.database import Session, read, write
from fibflow.store.installation import Lead, check_lead
from fibflow.store.synced import Name
from fibflow.store.tables import attempt, cron_task, task, task_final, task_type

COUNTED = 60
"""Seconds over which arrivals are counted."""
TIMED = 600
"""Seconds back from which attempts are timed."""
SAMPLE = 200
"""Attempts of a type that are timed."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Of a pool: what each of its types asks for, and in how many seconds a cron task of them is due, None for never."""

    loads: tuple[Load, ...] = ()
    due_in: float | None = None


@read
def demands(session: Session, namespaces: Sequence[str] | None = None) -> dict[Name, Demand]:
    """What is asked for of each pool that types are bound to, in these namespaces or in all."""
    bound: sa.ColumnElement[bool] = task_type.c.pool.is_not(None)
    if namespaces is not None:
        bound = sa.and_(bound, task_type.c.namespace.in_(namespaces))
    query = sa.select(task_type.c.id, task_type.c.namespace, task_type.c.pool, _held).where(bound)
    moment = session.now()
    waiting, running, came = _waiting(session, bound), _running(session, bound), _came(session, bound, moment)
    took, due = _took(session, bound, moment), _due(session, bound)
    loads: defaultdict[Name, list[Load]] = defaultdict(list)
    ticks: defaultdict[Name, list[int]] = defaultdict(list)
    for type_id, namespace, pool, held in session.connection.execute(query):
        name = Name(namespace, pool)
        idle = 0 if held else waiting.get(type_id, 0)
        rate = 0.0 if held else came.get(type_id, 0) / COUNTED
        loads[name].append(Load(idle, running.get(type_id, 0), rate, took.get(type_id)))
        if type_id in due:
            ticks[name].append(due[type_id])
    return {name: Demand(tuple(each), _seconds_until(ticks[name], moment)) for name, each in loads.items()}


_held = sa.or_(task_type.c.paused, task_type.c.suspended).label("held")


def _seconds_until(instants: Sequence[int], moment: int) -> float | None:
    return max(min(instants) - moment, 0) / SECOND if instants else None


def _waiting(session: Session, bound: sa.ColumnElement[bool]) -> dict[int, int]:
    """What is ready, and what is due and waits for somebody to make it so."""
    due = sa.or_(task.c.state == sa.text("'ready'"), sa.and_(task.c.state == sa.text("'scheduled'"), task.c.run_at <= now()))
    return _counted(session, task, sa.and_(bound, due))


def _running(session: Session, bound: sa.ColumnElement[bool]) -> dict[int, int]:
    return _counted(session, task, sa.and_(bound, task.c.state == sa.text("'running'")))


def _came(session: Session, bound: sa.ColumnElement[bool], moment: int) -> dict[int, int]:
    """Tasks that came in lately, final ones too: these ended later than they came."""
    since = moment - COUNTED * SECOND
    hot = _counted(session, task, sa.and_(bound, task.c.created_at > since))
    final = _counted(session, task_final, sa.and_(bound, task_final.c.finished_at > since, task_final.c.created_at > since))
    return {type_id: hot.get(type_id, 0) + final.get(type_id, 0) for type_id in hot.keys() | final.keys()}


def _counted(session: Session, table: sa.Table, which: sa.ColumnElement[bool]) -> dict[int, int]:
    query = sa.select(table.c.type_id, sa.func.count()).join(task_type, task_type.c.id == table.c.type_id)
    return {type_id: count for type_id, count in session.connection.execute(query.where(which).group_by(table.c.type_id))}


def _took(session: Session, bound: sa.ColumnElement[bool], moment: int) -> dict[int, float]:
    """The mean of the last attempts of tasks that ended lately, in seconds."""
    lately = sa.and_(bound, task_final.c.finished_at > moment - TIMED * SECOND)
    rank = sa.func.row_number().over(partition_by=task_final.c.type_id, order_by=task_final.c.finished_at.desc())
    chosen = (
        sa.select(task_final.c.id, task_final.c.attempt, task_final.c.type_id, rank.label("rank"))
        .join(task_type, task_type.c.id == task_final.c.type_id)
        .where(lately)
        .subquery("chosen")
    )
    last = sa.and_(attempt.c.task_id == chosen.c.id, attempt.c.attempt == chosen.c.attempt)
    lasted = sa.func.avg(attempt.c.ended_at - attempt.c.started_at)
    query = sa.select(chosen.c.type_id, lasted).join(attempt, last).where(chosen.c.rank <= SAMPLE).group_by(chosen.c.type_id)
    found: Any = session.connection.execute(query)
    return {type_id: float(mean) / SECOND for type_id, mean in found}


def _due(session: Session, bound: sa.ColumnElement[bool]) -> dict[int, int]:
    ticking = sa.and_(bound, ~cron_task.c.paused, ~cron_task.c.suspended)
    query = sa.select(cron_task.c.type_id, sa.func.min(cron_task.c.next_at)).join(
        task_type, task_type.c.id == cron_task.c.type_id
    )
    return {type_id: at for type_id, at in session.connection.execute(query.where(ticking).group_by(cron_task.c.type_id))}


# ── what no worker is there to do ─────────────────────────────────────────────────────────────────────────────────


@read
def namespaces_behind(session: Session) -> set[str]:
    """The namespaces where a cron task is due, or a task that nobody has made ready."""
    ticks = sa.select(cron_task.c.namespace).where(~cron_task.c.paused, ~cron_task.c.suspended, cron_task.c.next_at <= now())
    late = sa.and_(task.c.state == sa.text("'scheduled'"), task.c.run_at <= now())
    tasks = sa.select(task_type.c.namespace).join(task, task.c.type_id == task_type.c.id).where(late)
    return set(session.connection.execute(ticks.union(tasks)).scalars())


@write
def advance(session: Session, lead: Lead, namespace: str) -> None:
    """Decide the ticks that are due in a namespace, and make ready what is due. Raises LeadLost."""
    check_lead(session, lead)
    deciding.decide_ticks(Session(session.connection, namespace, session.priority_step, session.wakes, session.later))
    outlook.promote(session)
