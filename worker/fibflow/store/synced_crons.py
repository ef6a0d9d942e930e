"""What an operator stores of CronTasks, as synced.py does of the other resources; and how far each is, for its status.

A row that a sync creates starts at the database's now: no earlier instant is decided, whatever the policy for missed
ones. What a status remembers of a pause after a failure is given to a row that is new, and to no other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.errors import UnknownTaskType
from fibflow.model import Options
from fibflow.schedule import Schedule
from fibflow.store.cron import CronDeclaration, cron_columns, starting_at, update_cron
from fibflow.store.database import Session, read, write
from fibflow.store.installation import Lead, check_lead
from fibflow.store.snapshot import status_of
from fibflow.store.synced import Name, among
from fibflow.store.tables import cron_task, cron_tick, task, task_final, task_type
from fibflow.store.tasktypes import insert_or_nothing, options_of


@dataclass(frozen=True, slots=True)
class CronRow:
    """What a CronTask says: `type` is the name that code uses, `payload` is JSON text."""

    resource: Name
    type: str
    schedule: str
    payload: str
    tag: str | None
    options: Options
    missed_run_policy: str
    concurrency_policy: str
    pause_on_failure: bool
    suspended: bool


@dataclass(frozen=True, slots=True)
class CronSync:
    """A row as it is wanted; `paused_reason` pauses it if it is new."""

    row: CronRow
    paused_reason: str | None = None


PLAIN = ("schedule", "payload", "tag", "missed_run_policy", "concurrency_policy", "pause_on_failure", "suspended")


def cron_row(resource: Name, declaration: CronDeclaration) -> CronRow:
    """A declaration as it would be stored. Raises InvalidInput of the field that is wrong."""
    columns = cron_columns(declaration)
    plain = {name: columns[name] for name in PLAIN}
    return CronRow(resource=resource, type=declaration.type, options=options_of(columns), **plain)


@read
def stored_crons(session: Session, names: Collection[Name] | None = None) -> dict[Name, CronRow]:
    """The rows that CronTasks have, of these or of all."""
    query = (
        sa.select(cron_task, task_type.c.name.label("type"))
        .join(task_type, task_type.c.id == cron_task.c.type_id)
        .where(cron_task.c.source == "resource")
    )
    if names is not None:
        query = query.where(among(cron_task.c.name, cron_task, names))
    found = [_row(row) for row in session.connection.execute(query).mappings()]
    return {row.resource: row for row in found}


def _row(row: sa.RowMapping) -> CronRow:
    plain = {name: row[name] for name in PLAIN}
    return CronRow(resource=Name(row["namespace"], row["name"]), type=row["type"], options=options_of(row), **plain)


@write
def sync_crons(session: Session, lead: Lead, syncs: Sequence[CronSync]) -> None:
    """Store what CronTasks say. Raises LeadLost, UnknownTaskType."""
    check_lead(session, lead)
    ids = _type_ids(session, {Name(sync.row.resource.namespace, sync.row.type) for sync in syncs})
    wanted = {sync.row.resource: _columns(sync.row, ids) for sync in syncs}
    stored = _locked(session, wanted)
    moment = session.now()
    fresh = [_fresh(sync, wanted[sync.row.resource], moment) for sync in syncs if sync.row.resource not in stored]
    if fresh:
        session.connection.execute(insert_or_nothing(session, cron_task), fresh)
    for name, row in sorted(stored.items()):
        update_cron(session, row, wanted[name])


def _type_ids(session: Session, names: Collection[Name]) -> dict[Name, int]:
    query = sa.select(task_type.c.namespace, task_type.c.name, task_type.c.id)
    found = session.connection.execute(query.where(among(task_type.c.name, task_type, names)))
    return {Name(row.namespace, row.name): row.id for row in found}


def _columns(row: CronRow, type_ids: Mapping[Name, int]) -> dict[str, Any]:
    namespace, name = row.resource
    if Name(namespace, row.type) not in type_ids:
        raise UnknownTaskType(row.type, namespace)
    declaration = CronDeclaration(name=name, type=row.type, schedule=row.schedule, options=row.options)
    plain = {name: getattr(row, name) for name in PLAIN}
    return {**cron_columns(declaration), **plain, "source": "resource", "type_id": type_ids[Name(namespace, row.type)]}


def _locked(session: Session, names: Collection[Name]) -> dict[Name, Mapping[str, Any]]:
    query = sa.select(cron_task).where(among(cron_task.c.name, cron_task, names)).order_by(cron_task.c.id).with_for_update()
    return {Name(row["namespace"], row["name"]): dict(row) for row in session.connection.execute(query).mappings()}


def _fresh(sync: CronSync, columns: Mapping[str, Any], moment: int) -> dict[str, Any]:
    paused = {"paused": sync.paused_reason is not None, "paused_reason": sync.paused_reason}
    start = starting_at(sync.row.schedule, moment)
    return {**columns, **paused, "namespace": sync.row.resource.namespace, **start}


@write
def forget_crons(session: Session, lead: Lead, names: Collection[Name]) -> None:
    """The CronTasks are gone: no more ticks; the tasks of earlier ones stay. Raises LeadLost."""
    check_lead(session, lead)
    named = sa.and_(cron_task.c.source == "resource", among(cron_task.c.name, cron_task, names))
    gone = session.connection.execute(sa.delete(cron_task).where(named).returning(cron_task.c.id)).scalars().all()
    session.connection.execute(sa.delete(cron_tick).where(cron_tick.c.cron_id.in_(gone)))


# ── how far each is ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class CronState:
    """Where a cron task stands; if this is as it was, so are its figures. Instants in microseconds."""

    decided_through: int
    next_at: int
    paused: bool
    paused_reason: str | None
    active: int


@read
def cron_states(session: Session) -> dict[Name, CronState]:
    """Where the cron tasks of resources stand."""
    counts = sa.select(task.c.cron_id, sa.func.count()).where(task.c.cron_id.is_not(None)).group_by(task.c.cron_id)
    active = {cron_id: count for cron_id, count in session.connection.execute(counts)}
    columns = (
        cron_task.c[name] for name in ("id", "namespace", "name", "decided_through", "next_at", "paused", "paused_reason")
    )
    query = sa.select(*columns).where(cron_task.c.source == "resource")
    return {
        Name(row.namespace, row.name): CronState(
            row.decided_through, row.next_at, row.paused, row.paused_reason, active.get(row.id, 0)
        )
        for row in session.connection.execute(query)
    }


@dataclass(frozen=True, slots=True)
class CronFigures:
    """What a status tells of a cron task. `last_outcome` is the status of the last tick's task. Instants in microseconds."""

    next_ticks: tuple[int, ...]
    last_tick: int | None
    last_outcome: str | None
    missed: int
    active: int
    paused: bool
    paused_reason: str | None


@read
def cron_figures(session: Session, names: Collection[Name]) -> dict[Name, CronFigures]:
    """What is to be told of cron tasks, of those that have a row."""
    columns = [cron_task.c[name] for name in ("id", "namespace", "name", "schedule", "next_at", "paused", "paused_reason")]
    query = sa.select(*columns).where(cron_task.c.source == "resource", among(cron_task.c.name, cron_task, names))
    rows = session.connection.execute(query).all()
    ids = [row.id for row in rows]
    last, missed, active = _last(session, ids), _missed(session, ids), _active(session, ids)
    return {
        Name(row.namespace, row.name): CronFigures(
            next_ticks=_next_ticks(Schedule.parse(row.schedule), row.next_at),
            last_tick=last.get(row.id, NEVER)[0],
            last_outcome=last.get(row.id, NEVER)[1],
            missed=missed.get(row.id, 0),
            active=active.get(row.id, 0),
            paused=row.paused,
            paused_reason=row.paused_reason,
        )
        for row in rows
    }


NEVER: tuple[None, None] = (None, None)


def _next_ticks(schedule: Schedule, first: int) -> tuple[int, ...]:
    second = schedule.next_after(first)
    return first, second, schedule.next_after(second)


def _last(session: Session, ids: Sequence[int]) -> dict[int, tuple[int, str]]:
    """The last tick of each that ran, and its task's status; "deleted" when history has it no more."""
    newest = (
        sa.select(cron_tick.c.cron_id, sa.func.max(cron_tick.c.tick).label("tick"))
        .where(cron_tick.c.cron_id.in_(ids), cron_tick.c.decision == "run")
        .group_by(cron_tick.c.cron_id)
        .subquery("newest")
    )
    same = sa.and_(cron_tick.c.cron_id == newest.c.cron_id, cron_tick.c.tick == newest.c.tick)
    query = (
        sa.select(newest.c.cron_id, newest.c.tick, task_final.c.status, task.c.state)
        .join(cron_tick, same)
        .outerjoin(task_final, task_final.c.id == cron_tick.c.task_id)
        .outerjoin(task, task.c.id == cron_tick.c.task_id)
    )
    found = session.connection.execute(query)
    return {row.cron_id: (row.tick, row.status or (str(status_of(row.state)) if row.state else "deleted")) for row in found}


def _missed(session: Session, ids: Sequence[int]) -> dict[int, int]:
    """Instants that were skipped as missed, as far as history goes back; 1000 of a range that is longer."""
    missed = sa.and_(cron_tick.c.cron_id.in_(ids), cron_tick.c.reason == "missed")
    total = sa.func.sum(sa.func.coalesce(cron_tick.c.count, 1000))
    query = sa.select(cron_tick.c.cron_id, total).where(missed).group_by(cron_tick.c.cron_id)
    return {cron_id: int(count) for cron_id, count in session.connection.execute(query)}


def _active(session: Session, ids: Sequence[int]) -> dict[int, int]:
    query = sa.select(task.c.cron_id, sa.func.count()).where(task.c.cron_id.in_(ids)).group_by(task.c.cron_id)
    return {cron_id: count for cron_id, count in session.connection.execute(query)}
