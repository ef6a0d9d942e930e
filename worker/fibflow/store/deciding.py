"""Deciding cron ticks: every instant once, in the transaction that moves its cron row on.

Protocol. A cron row is decided by whoever locks it: PostgreSQL's FOR UPDATE SKIP LOCKED, SQLite's BEGIN IMMEDIATE. One
transaction holds the lock, inserts the tasks, records the ticks, and moves `decided_through` and `next_at` on. So every
instant is decided once, whatever crashes and however many try.

A row that cannot be decided (its task type is gone) is undone to its savepoint and tried again later: its instants stay
undecided, and the rows behind it go on.

Which instants run is decided in fibflow/ticks.py; what becomes of a tick's task is settle.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow import ticks as rules
from fibflow.errors import FibflowError, UnknownTaskType
from fibflow.logs import logger
from fibflow.metrics import CRON_LAG, CRON_TICKS
from fibflow.model import SECOND, ConcurrencyPolicy, MissedRunPolicy, NewTask, TaskId
from fibflow.schedule import Schedule
from fibflow.store.cron import skipped
from fibflow.store.database import Session, write
from fibflow.store.enqueue import Tickage, insert_tasks
from fibflow.store.tables import cron_task, cron_tick, task, task_type
from fibflow.store.tasktypes import options_of

log = logger(__name__)

TRIED_AGAIN_AFTER = 60 * SECOND
"""A row that could not be decided is due again after so long."""

Row = Mapping[str, Any]


@write
def decide_ticks(session: Session, limit: int = 100) -> int:
    """Decide what is due of at most `limit` cron tasks of the namespace that nobody else is deciding; how many."""
    moment = session.now()
    due = _due(session, moment, limit)
    for row in due:
        try:
            with session.savepoint():
                _decide(session, row, moment)
        except (FibflowError, sa.exc.IntegrityError, sa.exc.DataError) as error:
            session.after(
                log.error,
                "cron_not_decided",
                cron=row["name"],
                namespace=session.namespace,
                error=str(getattr(error, "orig", error)),
            )
            _advance(session, row, row["decided_through"], moment + TRIED_AGAIN_AFTER)
    return len(due)


def _due(session: Session, moment: int, limit: int) -> Sequence[Row]:
    query = (
        sa.select(cron_task, task_type.c.name.label("type"))
        .outerjoin(task_type, task_type.c.id == cron_task.c.type_id)
        .where(cron_task.c.namespace == session.namespace, cron_task.c.next_at <= moment)
        .where(~cron_task.c.paused, ~cron_task.c.suspended)
        .order_by(cron_task.c.next_at, cron_task.c.id)
        .limit(limit)
        .with_for_update(of=cron_task, skip_locked=True)
    )
    return [dict(row) for row in session.connection.execute(query).mappings()]


def _decide(session: Session, row: Row, moment: int) -> None:
    """One cron task: its tasks, its ticks, and how far it is decided now."""
    if row["type"] is None:
        raise UnknownTaskType(f"with id {row['type_id']}", session.namespace)
    schedule = Schedule.parse(row["schedule"])
    overlap = ConcurrencyPolicy(row["concurrency_policy"])
    active = _active(session, row["id"]) if overlap is ConcurrencyPolicy.FORBID else 0
    missed = MissedRunPolicy(row["missed_run_policy"])
    decision = rules.decide(row["decided_through"], moment, schedule, missed, overlap, active)
    records = [_record(session, row, tick, moment) for tick in decision.ticks]
    if records:
        session.connection.execute(sa.insert(cron_tick).values(records))
        session.after(_count, records)
        session.after(
            log.debug,
            "cron_decided",
            cron=row["name"],
            ticks=len(records),
            tasks=[r["task_id"] for r in records if r["task_id"]],
        )
    _advance(session, row, decision.decided_through, schedule.next_after(decision.decided_through))


def _count(records: Sequence[Row]) -> None:
    for record in records:
        CRON_TICKS.labels(record["reason"] or record["decision"]).inc(record["count"] or rules.MOST_COUNTED)
        if record["reason"] is None:
            CRON_LAG.observe((record["decided_at"] - record["tick"]) / SECOND)


def _active(session: Session, cron_id: int) -> int:
    """The cron task's ticks that are not final: all that are in the hot table."""
    query = sa.select(sa.func.count()).select_from(task).where(task.c.cron_id == cron_id)
    return int(session.connection.execute(query).scalar_one())


def _record(session: Session, row: Row, tick: rules.Tick | rules.SkippedRange, moment: int) -> dict[str, Any]:
    record = {"cron_id": row["id"], "decided_at": moment, "task_id": None}
    if isinstance(tick, rules.SkippedRange):
        return record | skipped(row["id"], tick)
    record |= {"tick": tick.instant, "through": tick.instant, "count": 1}
    if tick.reason is not None:
        return record | {"decision": "skip", "reason": tick.reason}
    return record | {"decision": "run", "reason": None, "task_id": _run(session, row, tick.instant)}


def _run(session: Session, row: Row, instant: int) -> TaskId:
    """The task of an instant, due now; enqueueing it tells the workers."""
    new = NewTask(row["type"], encoding.decode(row["payload"]), row["tag"], options=options_of(row))
    return insert_tasks(session, [new], tickage=Tickage(row["id"], instant))[0]


def _advance(session: Session, row: Row, decided_through: int, next_at: int) -> None:
    change = sa.update(cron_task).where(cron_task.c.id == row["id"])
    session.connection.execute(change.values(decided_through=decided_through, next_at=next_at))
