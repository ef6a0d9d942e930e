"""Tasks that end: a row moves from `task` to `task_final`, and whoever waits for it is told.

Two ways lead there. `finish` moves rows that the caller has locked, on both databases. `complete_owned` is for what most
attempts come to, a completed task, on PostgreSQL: one statement checks the owner, moves the rows that are still its own
under their fences, with their results, and writes their attempts.

Why the guards of that statement are join quals. The planner believes that one row has this worker, since few rows run
when it looks; given `worker_id = :worker` it walks the running rows once for each ending, and a batch of 500 costs a
hundred times as much. With (id, fence, worker) all taken from the array, the primary key is the only way in. And the array
comes from sub-selects, under conditions that always hold, so that the planner expects a row of it or two whatever its
length: a plan that a connection made on an empty table, and keeps, is then right on a full one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from fibflow.model import Status
from fibflow.store.batch import array, integers
from fibflow.store.cron import pause_after_failure
from fibflow.store.database import Session
from fibflow.store.ending import LASTING, Ending, Key
from fibflow.store.notes import BETWEEN, Note, stored_note
from fibflow.store.notices import wake
from fibflow.store.tables import event, task, task_final

SET = {
    "status": "'completed'",
    "last_outcome": "'completed'",
    "error": "NULL",
    "suspend_reason": "NULL",
    "last_event_type": "'task_completed'",
    "last_event_at": "clock.now",
    "result": "gone.given_result",
    "finished_at": "clock.now",
}
"""What completing changes; all else a task takes along."""

KEPT = {name: SET.get(name, f"gone.{name}") for name in ("status", *LASTING, "result", "finished_at")}

COMPLETE_OWNED = sa.text(f"""
WITH owner AS MATERIALIZED (
    SELECT id FROM fibflow.worker WHERE id = :worker AND status = 'active' FOR KEY SHARE
), clock AS MATERIALIZED (
    SELECT fibflow.fibflow_now() AS now
), given AS MATERIALIZED (
    SELECT g.*, owner.id AS worker_id
    FROM owner, unnest(
        (SELECT CAST(:ids AS bigint[])), (SELECT CAST(:fences AS int[])), (SELECT CAST(:results AS text[]))
    ) AS g(id, fence, result)
    WHERE g.id > 0 AND g.fence > 0
), gone AS (
    DELETE FROM fibflow.task t USING given
    WHERE t.id = given.id AND t.attempt = given.fence AND t.worker_id = given.worker_id
    RETURNING {", ".join(f"t.{name}" for name in LASTING if name not in SET)}, t.claimed_at, given.result AS given_result
), kept AS (
    INSERT INTO fibflow.task_final ({", ".join(KEPT)})
    SELECT {", ".join(KEPT.values())} FROM gone, clock
), ended AS (
    INSERT INTO fibflow.attempt (task_id, attempt, stage, failures, worker_id, started_at, ended_at, outcome)
    SELECT id, attempt, stage, failures, worker_id, claimed_at, now, 'completed' FROM gone, clock
)
SELECT gone.id, attempt, parent_id, generation, now FROM gone, clock
""")


def complete_owned(session: Session, worker_id: int, endings: Sequence[Ending]) -> tuple[set[Key], list[Awaited]]:
    """Complete attempts of an active worker and their tasks (PostgreSQL).

    The keys of those that were still its own, and whom they are to be counted off: `count_off` follows.
    """
    parameters = {
        "worker": worker_id,
        "ids": integers([ending.task_id for ending in endings]),
        "fences": integers([ending.fence for ending in endings]),
        "results": array([ending.result for ending in endings]),
    }
    rows = session.fetch(COMPLETE_OWNED, parameters)
    awaited = [(parent_id, generation, now) for _, _, parent_id, generation, now in rows if parent_id is not None]
    return {(id, attempt) for id, attempt, *_ in rows}, awaited


Awaited = tuple[int, int, int]
"""(parent, generation, moment): what an ended child is counted off, and when it ended."""


def finish(session: Session, rows: Sequence[dict[str, Any]]) -> list[Awaited]:
    """Move locked hot rows to their end; `rows` are those of `task_final`. Whom they are to be counted off."""
    if not rows:
        return []
    session.connection.execute(sa.delete(task).where(task.c.id.in_([row["id"] for row in rows])))
    session.connection.execute(sa.insert(task_final), list(rows))
    failed = [row for row in rows if row["cron_id"] is not None and row["status"] == Status.PERMANENTLY_FAILED]
    if failed:
        pause_after_failure(session, [(row["cron_id"], row["id"]) for row in failed])
    children = [row for row in rows if row["parent_id"] is not None]
    return [(row["parent_id"], row["generation"], row["finished_at"]) for row in children]


def count_off(session: Session, awaited: Sequence[Awaited]) -> None:
    """Count ended children off their parents: the last act of a transaction, for it locks parents, the youngest first."""
    counts = Counter((parent_id, generation) for parent_id, generation, _ in awaited)
    last = {(parent_id, generation): moment for parent_id, generation, moment in sorted(awaited)}
    for (parent_id, generation), count in sorted(counts.items(), reverse=True):
        _count_off(session, parent_id, generation, count, last[parent_id, generation])


def _count_off(session: Session, parent_id: int, generation: int, count: int, moment: int) -> None:
    """So many children of this generation are final; the last of them sends the parent to its next stage."""
    row = session.connection.execute(_counted_off(session, parent_id, generation, count, moment)).mappings().first()
    if row is not None and row["open_children"] == 0:
        note = Note("task_resumed", BETWEEN, "suspended", message="all children are final")
        session.connection.execute(sa.insert(event), [stored_note(note, row, moment, Status.PENDING)])
        wake(session, str(row["type_id"]))


def _counted_off(session: Session, parent_id: int, generation: int, count: int, moment: int) -> sa.Executable:
    waiting = sa.and_(task.c.id == parent_id, task.c.spawned == generation, task.c.open_children >= count)
    left = task.c.open_children - count
    last = left == 0
    order_key = sa.literal(moment, sa.BigInteger) - sa.cast(task.c.priority, sa.BigInteger) * session.priority_step
    return (
        sa.update(task)
        .where(waiting)
        .values(
            open_children=left,
            state=sa.case((last, "ready"), else_=task.c.state),
            stage=task.c.stage + sa.case((last, 1), else_=0),
            run_at=sa.case((last, moment), else_=task.c.run_at),
            order_key=sa.case((last, order_key), else_=task.c.order_key),
            last_event_type=sa.case((last, "task_resumed"), else_=task.c.last_event_type),
            last_event_at=sa.case((last, moment), else_=task.c.last_event_at),
        )
        .returning(task)
    )
