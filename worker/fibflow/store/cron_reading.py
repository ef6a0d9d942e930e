"""Cron tasks and their ticks, as they are read. Nothing here writes or locks; what they are is the story of cron.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import NotFound
from fibflow.model import ConcurrencyPolicy, MissedRunPolicy
from fibflow.records import CronTask, Page, Tick
from fibflow.store.clock import EPOCH, to_datetime
from fibflow.store.database import Session, read
from fibflow.store.paging import page, paging
from fibflow.store.tables import cron_task, cron_tick, task_type
from fibflow.store.tasktypes import options_of

Row = Mapping[str, Any]


@read
def crons(session: Session) -> list[CronTask]:
    """The cron tasks of the namespace, by name."""
    query = (
        sa.select(cron_task, task_type.c.name.label("type"))
        .outerjoin(task_type, task_type.c.id == cron_task.c.type_id)
        .where(cron_task.c.namespace == session.namespace)
        .order_by(cron_task.c.name)
    )
    return [_cron(dict(row)) for row in session.connection.execute(query).mappings()]


def _cron(row: Row) -> CronTask:
    plain = ("id", "namespace", "name", "schedule", "tag", "pause_on_failure", "suspended", "paused", "paused_reason")
    return CronTask(
        **{name: row[name] for name in (*plain, "source")},
        type=row["type"] or "",
        payload=encoding.decode(row["payload"]),
        options=options_of(row),
        missed_run_policy=MissedRunPolicy(row["missed_run_policy"]),
        concurrency_policy=ConcurrencyPolicy(row["concurrency_policy"]),
        decided_through=to_datetime(row["decided_through"]) or EPOCH,
        next_at=to_datetime(row["next_at"]) or EPOCH,
    )


@read
def ticks(session: Session, name: str, limit: int | None = 100, offset: int = 0, order: str = "desc") -> Page[Tick]:
    """How a cron task's instants were decided, by instant ("desc": newest first). Raises NotFound, InvalidInput."""
    part = paging(limit, offset, order)
    cron_id = session.connection.execute(sa.select(cron_task.c.id).where(named(session, name))).scalar()
    if cron_id is None:
        raise NotFound("cron task", name, session.namespace)
    rows = sa.select(cron_tick).where(cron_tick.c.cron_id == cron_id).subquery("ticks")
    return page(session, rows, ("tick",), part, lambda row: _tick(name, row))


def _tick(name: str, row: sa.Row[Any]) -> Tick:
    return Tick(
        cron=name,
        instant=to_datetime(row.tick) or EPOCH,
        through=to_datetime(row.through) or EPOCH,
        decision=row.decision,
        reason=row.reason,
        task_id=row.task_id,
        count=row._mapping["count"],
        decided_at=to_datetime(row.decided_at) or EPOCH,
    )


def named(session: Session, name: str) -> sa.ColumnElement[bool]:
    """The row of a cron task of the namespace. Raises InvalidInput."""
    encoding.text(name, "name", longest=253)
    return sa.and_(cron_task.c.namespace == session.namespace, cron_task.c.name == name)
