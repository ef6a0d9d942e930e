"""Polling: what there is to do, as a worker that looks now and then sees it. Cheap SELECTs; `promote` alone writes.

A poll sees ready tasks, and what is due besides them: tasks to promote, cron ticks, leases that ran out. A sweep sees what
workers left behind. Whoever sees it acts by `promote` or the verbs of other modules, which look again under locks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.model import SECOND, Outcome, Status
from fibflow.store.batch import rows, values
from fibflow.store.claim import Claimed
from fibflow.store.clock import now
from fibflow.store.database import Session, read, statement
from fibflow.store.ending import Key
from fibflow.store.tables import attempt, cron_task, task, task_type, worker

GRACE = 2 * SECOND
"""Past its deadline by so much, an attempt is settled as timed out by anybody who sees it."""


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll saw. `due_in`: microseconds until the next scheduled task or tick, at most a minute."""

    ready: bool
    promote: bool
    tick: bool
    expired: bool
    due_in: int


A_MINUTE = 60 * SECOND


@read
def poll(session: Session, type_ids: Sequence[int]) -> Polled:
    """One cheap SELECT that tells an idle worker what there is to do. It writes nothing."""
    row = session.connection.execute(POLL, {"types": list(type_ids), "namespace": session.namespace}).one()
    nexts = [at for at in (row.next_task, row.next_tick) if at is not None]
    due_in = min([at - row.now for at in nexts] + [A_MINUTE])
    return Polled(
        ready=bool(row.ready),
        promote=row.next_task is not None and row.next_task <= row.now,
        tick=row.next_tick is not None and row.next_tick <= row.now,
        expired=row.next_expiry is not None and row.next_expiry <= row.now,
        due_in=max(due_in, 0),
    )


READY = sa.text("'ready'")
_of_types = task.c.type_id.in_(sa.bindparam("types", expanding=True))
_running_types = sa.select(task_type.c.id).where(~task_type.c.paused, ~task_type.c.suspended)
POLL = sa.select(
    now().label("now"),
    sa.exists(sa.select(task.c.id).where(task.c.state == READY, _of_types, task.c.type_id.in_(_running_types))).label("ready"),
    sa.select(sa.func.min(task.c.run_at)).where(task.c.state == sa.text("'scheduled'")).scalar_subquery().label("next_task"),
    sa.select(sa.func.min(cron_task.c.next_at))
    .where(sa.text("NOT cron_task.paused AND NOT cron_task.suspended"), cron_task.c.namespace == sa.bindparam("namespace"))
    .scalar_subquery()
    .label("next_tick"),
    sa.select(sa.func.min(worker.c.expires_at))
    .where(worker.c.status == sa.text("'active'"))
    .scalar_subquery()
    .label("next_expiry"),
)

PROMOTED = 1000
"""Rows in one promotion."""


@statement
def promote(session: Session) -> int:
    """Make scheduled tasks that are due ready to be claimed, a bounded number; how many."""
    due = (
        sa.select(task.c.id)
        .where(task.c.state == sa.text("'scheduled'"), task.c.run_at <= sa.select(now()).scalar_subquery())
        .order_by(task.c.run_at)
        .limit(PROMOTED)
        .with_for_update(skip_locked=True)
        .cte("due")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    change = sa.update(task).where(task.c.id == due.c.id).values(state="ready").returning(task.c.id)
    return len(session.connection.execute(change).all())


@dataclass(frozen=True, slots=True)
class Lost:
    """What a sweep saw: attempts past their deadline, workers whose lease ran out, tasks whose owner is not active."""

    overdue: bool
    expired: bool
    orphaned: bool


@read
def look_for_lost(session: Session) -> Lost:
    """See what workers left behind."""
    row = session.connection.execute(LOOK_FOR_LOST).one()
    return Lost(bool(row.overdue), bool(row.expired), bool(row.orphaned))


_running = task.c.state == sa.text("'running'")
_active = worker.c.status == sa.text("'active'")
_late = task.c.deadline_at <= sa.select(now() - GRACE).scalar_subquery()
_out = worker.c.expires_at <= sa.select(now()).scalar_subquery()
LOOK_FOR_LOST = sa.select(
    sa.exists(sa.select(task.c.id).where(_running, _late)).label("overdue"),
    sa.exists(sa.select(worker.c.id).where(_active, _out)).label("expired"),
    sa.exists(sa.select(task.c.id).join(worker, worker.c.id == task.c.worker_id).where(_running, ~_active)).label("orphaned"),
)


@read
def owned(session: Session, worker_id: int) -> set[Key]:
    """The attempts that the database says this worker runs."""
    query = sa.select(task.c.id, task.c.attempt).where(_running, task.c.worker_id == worker_id)
    return {(row.id, row.attempt) for row in session.connection.execute(query)}


@read
def claims_of(session: Session, worker_id: int, keys: Collection[Key]) -> list[Claimed]:
    """Attempts that this worker runs, as their claim told them, or would have if its answer had not been lost."""
    ids = [task_id for task_id, _ in keys]
    columns = [task.c[name] for name in Claimed._fields]
    query = sa.select(*columns).where(_running, task.c.worker_id == worker_id, task.c.id.in_(ids)).order_by(task.c.id)
    return [Claimed(*row) for row in session.connection.execute(query)]


@read
def why_taken(session: Session, keys: Collection[Key]) -> dict[Key, str]:
    """Why attempts are no longer their worker's: cancel, pause, timeout; lease_lost for all else."""
    given = rows(session.postgresql, "k", KEY)
    columns = (attempt.c.task_id, attempt.c.attempt, attempt.c.outcome, attempt.c.became)
    query = sa.select(*columns).join(given, sa.and_(attempt.c.task_id == given.c.id, attempt.c.attempt == given.c.fence))
    parameters = values(session, "k", {"id": [key[0] for key in keys], "fence": [key[1] for key in keys]})
    found = {(row.task_id, row.attempt): _why(row) for row in session.connection.execute(query, parameters)}
    return {key: found.get(key, "lease_lost") for key in keys}


KEY = {"id": sa.BigInteger(), "fence": sa.BigInteger()}


def _why(row: Any) -> str:
    if row.became == Status.PAUSED:
        return "pause"
    return {Outcome.CANCELLED: "cancel", Outcome.TIMEOUT: "timeout"}.get(Outcome(row.outcome), "lease_lost")
