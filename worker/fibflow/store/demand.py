"""What the types of WorkerPools ask for: what waits and runs, what comes in, how long it takes, when a tick is due.

Read for whoever decides how many workers there should be; the decision is in fibflow.scaling. It is asked for again and
again, so nothing that is counted grows with the tables: what waits is counted up to a bound, by the index of claims; what
came in and how long it took is seen in the newest rows, and less often (`paces`). More than that is taken for that much.
With no worker left nobody promotes what is due or decides ticks: `advance` does both for a namespace, as any worker would.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.model import SECOND
from fibflow.scaling import Load
from fibflow.store import deciding, polling
from fibflow.store.clock import now
from fibflow.store.database import Session, read, write
from fibflow.store.installation import Lead, check_lead
from fibflow.store.synced import Name
from fibflow.store.tables import attempt, cron_task, task, task_final, task_type

COUNTED = 60
"""Seconds over which arrivals are counted."""
TIMED = (600, 60)
"""Seconds back from which attempts are timed: the shorter time counts where anything ended in it."""
SAMPLE = 200
"""Attempts of a type that are timed."""
MOST_WAITING = 50_000
"""Tasks of a type that are counted; what is due and nobody made ready is counted together."""
MOST_SEEN = 20_000
"""Rows of a table in which it is looked for arrivals, or for what ended."""
LATE = 1000
"""Tasks that are looked at for who is behind."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of a type: tasks that come in a second, and seconds that one takes, None if none ended lately."""

    arrival_rate: float = 0.0
    service_time: float | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """Of a pool: what each of its types asks for, and in how many seconds a cron task of them is due, None for never."""

    loads: tuple[Load, ...] = ()
    due_in: float | None = None


@read
def paces(session: Session) -> dict[int, Pace]:
    """The paces of the types that are bound to pools, by type id."""
    moment = session.now()
    came, took = _came(session, moment), _took(session, moment)
    return {type_id: Pace(came.get(type_id, 0) / COUNTED, took.get(type_id)) for type_id in came.keys() | took.keys()}


@read
def demands(
    session: Session, namespaces: Sequence[str] | None = None, known: Mapping[int, Pace] | None = None
) -> dict[Name, Demand]:
    """What is asked for of each pool that types are bound to, in these namespaces or in all; `known`: paces as of lately."""
    bound = _bound if namespaces is None else sa.and_(_bound, task_type.c.namespace.in_(namespaces))
    query = sa.select(*_told, _paused).where(bound)
    moment, pace = session.now(), paces(session) if known is None else known
    waiting, running, due = _waiting(session, bound), _running(session, bound), _due(session, bound)
    loads: defaultdict[Name, list[Load]] = defaultdict(list)
    ticks: defaultdict[Name, list[int]] = defaultdict(list)
    for type_id, namespace, pool, most, paused in session.connection.execute(query):
        name, own = Name(namespace, pool), pace.get(type_id, Pace())
        idle, rate = (0, 0.0) if paused else (waiting[type_id], own.arrival_rate)
        loads[name].append(Load(idle, running[type_id], rate, own.service_time, most))
        if type_id in due:
            ticks[name].append(due[type_id])
    return {name: Demand(tuple(each), _seconds_until(ticks[name], moment)) for name, each in loads.items()}


_bound: sa.ColumnElement[bool] = task_type.c.pool.is_not(None)
_told = (task_type.c.id, task_type.c.namespace, task_type.c.pool, task_type.c.max_concurrent_tasks)
_paused = sa.or_(task_type.c.paused, task_type.c.suspended).label("paused")


def _seconds_until(instants: Sequence[int], moment: int) -> float | None:
    return max(min(instants) - moment, 0) / SECOND if instants else None


def _waiting(session: Session, bound: sa.ColumnElement[bool]) -> Counter[int]:
    """What is ready, and what is due and waits for somebody to make it so."""
    return Counter(dict(_rows(session, ready_counts(bound)))) + Counter(dict(_rows(session, due_counts(bound))))


def ready_counts(bound: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """By type id."""
    some = sa.select(task.c.id).where(task.c.type_id == task_type.c.id, task.c.state == sa.text("'ready'"))
    # In the order of the index: without it, a full table of another type is read to the end.
    counted = some.order_by(task.c.order_key, task.c.id).limit(MOST_WAITING).correlate(task_type).subquery("some")
    count = sa.select(sa.func.count()).select_from(counted).correlate(task_type).scalar_subquery()
    return sa.select(task_type.c.id, count).where(bound)


def due_counts(bound: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """By type id."""
    due = sa.and_(task.c.state == sa.text("'scheduled'"), task.c.run_at <= now())
    some = sa.select(task.c.type_id).where(due).order_by(task.c.run_at).limit(MOST_WAITING).subquery("some")
    query = sa.select(some.c.type_id, sa.func.count()).join(task_type, task_type.c.id == some.c.type_id)
    return query.where(bound).group_by(some.c.type_id)


def _running(session: Session, bound: sa.ColumnElement[bool]) -> Counter[int]:
    """No more than there are slots."""
    query = sa.select(task.c.type_id, sa.func.count()).join(task_type, task_type.c.id == task.c.type_id)
    running = query.where(bound, task.c.state == sa.text("'running'")).group_by(task.c.type_id)
    return Counter(dict(_rows(session, running)))


def _came(session: Session, moment: int) -> Counter[int]:
    """Tasks that came in lately, by type; final ones, too."""
    since = moment - COUNTED * SECOND
    return sum((Counter(dict(_rows(session, arrivals(table, since)))) for table in (task, task_final)), Counter())


def arrivals(table: sa.Table, since: int) -> sa.Select[Any]:
    """By type id; ids rise as tasks come in."""
    newest = sa.select(table.c.type_id, table.c.created_at).order_by(table.c.id.desc()).limit(MOST_SEEN).subquery("newest")
    query = sa.select(newest.c.type_id, sa.func.count()).join(task_type, task_type.c.id == newest.c.type_id)
    return query.where(_bound, newest.c.created_at > since).group_by(newest.c.type_id)


def _took(session: Session, moment: int) -> dict[int, float]:
    """The mean of the last attempts of tasks that ended lately, in seconds, by type."""
    found: dict[int, Any] = {}
    for seconds in TIMED:
        found |= dict(_rows(session, lasted(moment - seconds * SECOND)))
    return {type_id: float(mean) / SECOND for type_id, mean in found.items() if mean is not None}


def lasted(since: int) -> sa.Select[Any]:
    """The mean duration of last attempts, by type id."""
    columns = (task_final.c.id, task_final.c.attempt, task_final.c.type_id, task_final.c.finished_at)
    ended = sa.select(*columns).where(task_final.c.finished_at > since).limit(MOST_SEEN).subquery("ended")
    rank = sa.func.row_number().over(partition_by=ended.c.type_id, order_by=ended.c.finished_at.desc())
    ranked = sa.select(ended, rank.label("rank")).join(task_type, task_type.c.id == ended.c.type_id).where(_bound)
    some = ranked.subquery("some")
    last = sa.and_(attempt.c.task_id == some.c.id, attempt.c.attempt == some.c.attempt)
    # A subquery for each row: a join may read all attempts that there are.
    took = sa.select(attempt.c.ended_at - attempt.c.started_at).where(last).correlate(some).scalar_subquery()
    return sa.select(some.c.type_id, sa.func.avg(took)).where(some.c.rank <= SAMPLE).group_by(some.c.type_id)


def _rows(session: Session, query: sa.Select[Any]) -> Iterator[tuple[int, Any]]:
    return ((type_id, value) for type_id, value in session.connection.execute(query))


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
    some = sa.select(task.c.type_id).where(late).order_by(task.c.run_at).limit(LATE).subquery("some")
    tasks = sa.select(task_type.c.namespace).join(some, some.c.type_id == task_type.c.id)
    return set(session.connection.execute(ticks.union(tasks)).scalars())


@write
def advance(session: Session, lead: Lead, namespace: str) -> None:
    """Decide the ticks that are due in a namespace, and make ready what is due. Raises LeadLost."""
    check_lead(session, lead)
    deciding.decide_ticks(Session(session.connection, namespace, session.priority_step, session.wakes, session.later))
    polling.promote(session)
