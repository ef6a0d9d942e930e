"""Recovery: the running tasks of workers that are gone become pending again, and attempts past their deadline end.

Taken back is by predicate: running rows whose owner is not active. Every sweep repeats that, so nothing depends on one of
them, and it waits for no lock of others: what they hold is left to the next. Who is active is the story of leases.py.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.lifecycle import Facts, after_failure, after_interruption
from fibflow.logs import logger
from fibflow.metrics import OVERDUE, RECOVERIES
from fibflow.model import Outcome, Status
from fibflow.store.clock import seconds
from fibflow.store.database import Session, write
from fibflow.store.ending import Ending, Row
from fibflow.store.held import unheld
from fibflow.store.notes import ENDS, Note
from fibflow.store.polling import GRACE
from fibflow.store.settle import end_attempts
from fibflow.store.tables import task, worker

log = logger(__name__)

SWEPT = 1000
"""Tasks that one sweep takes back at the most."""
OPERATOR = 0
"""Who takes back where no worker does."""


@write
def recover(session: Session, by: int) -> int:
    """The sweep: take back what workers run that are not active any more; how many tasks."""
    return take_back(session, by)


def take_back(session: Session, by: int) -> int:
    """Give running tasks whose owner is not active back to be claimed, at the stage they were in; how many."""
    query = (
        sa.select(task, worker.c.pod_id.label("lost_pod"), worker.c.status.label("cause"))
        .join(worker, worker.c.id == task.c.worker_id)
        .where(task.c.state == sa.text("'running'"), worker.c.status != "active")
        .order_by(task.c.id.desc())
        .limit(SWEPT)
        .with_for_update(of=task, skip_locked=True)
    )
    rows = session.connection.execute(query).mappings().all()
    pod = session.connection.execute(sa.select(worker.c.pod_id).where(worker.c.id == by)).scalar()
    back = end_attempts(session, unheld(session, [_lost(row, by, pod) for row in rows]))
    for cause, count in Counter(row["cause"] for row in rows if (row["id"], row["attempt"]) in back).items():
        session.after(RECOVERIES.labels(cause).inc, count)
    for task_id, fence in sorted(back):
        session.after(log.info, "task_recovered", task_id=task_id, attempt=fence, by=by)
    return len(back)


def _lost(row: Row, by: int, pod: str | None) -> Ending:
    metadata = {
        "lost_worker": row["worker_id"],
        "lost_pod": row["lost_pod"],
        "recovered_by": by,
        "recovered_by_pod": pod,
        "cause": row["cause"],
    }
    after = after_interruption(facts_of(row), random.random())
    rescuer = f"worker {by}" if by != OPERATOR else "the operator"
    error = f"its worker {row['worker_id']} was {row['cause']}; {rescuer} took it back"
    if after.status is not Status.PENDING:
        error = f"the interruption budget is used up: {error}"
    note = Note("task_recovered", ENDS, message=error, metadata=encoding.metadata(metadata), worker_id=by)
    return _ending(row, Outcome.INTERRUPTED, after=after, error=error, ended_by=by, notes=(note,))


def _ending(row: Row, outcome: Outcome, *, after: Any, error: str | None, ended_by: int, notes: Any = ()) -> Ending:
    return Ending(row["id"], row["attempt"], row["worker_id"], outcome, after, error=error, ended_by=ended_by, notes=notes)


def facts_of(row: Row) -> Facts:
    """What decides the future of the task in this row."""
    return Facts(
        failures=row["failures"],
        interruptions=row["interruptions"],
        max_attempts=row["max_attempts"],
        backoff=seconds(row["backoff"]),
        backoff_factor=row["backoff_factor"],
        max_backoff=seconds(row["max_backoff"]),
    )


@write
def time_out_overdue(session: Session, by: int) -> int:
    """Settle the attempts that are past their deadline and its grace, whoever runs them; how many."""
    query = (
        sa.select(task)
        .where(task.c.state == sa.text("'running'"), task.c.deadline_at <= session.now() - GRACE)
        .order_by(task.c.id.desc())
        .limit(SWEPT)
        .with_for_update(skip_locked=True)
    )
    rows = session.connection.execute(query).mappings().all()
    error = "timed out: its worker did not settle it in time"
    endings = [_ending(row, Outcome.TIMEOUT, after=after_failure(facts_of(row)), error=error, ended_by=by) for row in rows]
    late = end_attempts(session, unheld(session, endings))
    session.after(OVERDUE.inc, len(late))
    for task_id, fence in sorted(late):
        session.after(log.info, "task_timed_out", task_id=task_id, attempt=fence, by=by, error=error)
    return len(late)
