"""How attempts end: the one way in which a running task stops being run, whoever ends it.

Protocol. An ending names the task, the worker that owns it and its fence; the row must still be running under exactly
these, and, when the owner itself settles, the owner must be an active worker. Whatever ends an attempt goes through
`end_attempts`: the owner (settle), a reaper, a time-out, a pause, a cancel. It moves the row on (to `task_final`, back to
pending, to suspended or paused), writes the attempt's row, and counts a final child off its parent, in one transaction.
What an attempt's end leads to is decided in lifecycle.py, not here.

A settle that matches no row is a stale write, unless the attempt's row says that this very worker ended it with this very
outcome: then the answer to an earlier commit was lost, and it is success.

Locks are taken in descending id: a child's row is above its parent's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from fibflow.errors import LeaseLost
from fibflow.lifecycle import Next
from fibflow.model import FINAL, Outcome, Status
from fibflow.store.clock import micros
from fibflow.store.cron import pause_after_failure
from fibflow.store.database import Session, write
from fibflow.store.enqueue import wake
from fibflow.store.notes import Note, stored_note
from fibflow.store.stale import record_stale
from fibflow.store.tables import attempt, event, task, task_final, worker


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one attempt: whose it was, how it ended, and what the task becomes."""

    task_id: int
    fence: int
    worker_id: int
    outcome: Outcome
    next: Next
    result: str | None = None
    error: str | None = None
    context: bytes | None = None
    suspend_reason: str | None = None
    children: int = 0
    ended_by: int | None = None
    notes: tuple[Note, ...] = field(default=())

    @property
    def key(self) -> tuple[int, int]:
        return self.task_id, self.fence


Row = Mapping[str, Any]

SHARED = tuple(column.name for column in task_final.c if column.name in task.c and column.name != "status")
"""The columns that a task takes along when it ends."""


@write
def settle(session: Session, worker_id: int, endings: Sequence[Ending]) -> list[LeaseLost]:
    """End attempts of this worker; the stale ones are refused, recorded and returned, the others stand."""
    done = end_attempts(session, endings) if active(session, worker_id) else set()
    missed = [ending for ending in endings if ending.key not in done]
    stale = [ending for ending in missed if not _ended_so(session, ending)]
    for ending in stale:
        record_stale(session, ending.task_id, ending.fence, worker_id, VERB[ending.outcome])
    return [LeaseLost(ending.task_id, ending.fence, VERB[ending.outcome]) for ending in stale]


VERB = {
    Outcome.COMPLETED: "complete",
    Outcome.FAILED: "fail",
    Outcome.TIMEOUT: "time_out",
    Outcome.INTERRUPTED: "interrupt",
    Outcome.SUSPENDED: "suspend",
    Outcome.CANCELLED: "cancel",
}


def active(session: Session, worker_id: int) -> bool:
    """Whether the worker may write; its row is held against a take-over until this transaction ends."""
    query = sa.select(worker.c.id).where(worker.c.id == worker_id, worker.c.status == "active")
    return session.connection.execute(query.with_for_update(read=True, key_share=True)).first() is not None


def _ended_so(session: Session, ending: Ending) -> bool:
    """Whether this worker has ended this attempt with this outcome already."""
    query = sa.select(attempt.c.task_id).where(
        attempt.c.task_id == ending.task_id,
        attempt.c.attempt == ending.fence,
        attempt.c.worker_id == ending.worker_id,
        attempt.c.outcome == ending.outcome,
        attempt.c.ended_by.is_(None),
    )
    return ending.ended_by is None and session.connection.execute(query).first() is not None


def end_attempts(session: Session, endings: Iterable[Ending]) -> set[tuple[int, int]]:
    """End every attempt that is still what its ending says; the (task, fence) of those that were."""
    ordered = sorted(endings, key=lambda ending: -ending.task_id)
    moment = session.now()
    rows = _locked(session, ordered)
    found = [(ending, rows[ending.task_id]) for ending in ordered if _is_owner(rows.get(ending.task_id), ending)]
    if found:
        _write_attempts(session, found, moment)
        _write_events(session, found, moment)
        for ending, row in found:
            if ending.next.status not in FINAL:
                _move_on(session, ending, row, moment)
        finish_tasks(session, [_final_row(e, row, moment) for e, row in found if e.next.status in FINAL], moment)
    return {ending.key for ending, _ in found}


def _locked(session: Session, endings: Sequence[Ending]) -> dict[int, Row]:
    ids = [ending.task_id for ending in endings]
    query = sa.select(task).where(task.c.id.in_(ids)).order_by(task.c.id.desc()).with_for_update()
    return {row["id"]: row for row in session.connection.execute(query).mappings()}


def _is_owner(row: Row | None, ending: Ending) -> bool:
    return (
        row is not None
        and row["state"] == "running"
        and row["worker_id"] == ending.worker_id
        and row["attempt"] == ending.fence
    )


def _write_attempts(session: Session, found: Sequence[tuple[Ending, Row]], moment: int) -> None:
    rows = [
        {
            "task_id": row["id"],
            "attempt": row["attempt"],
            "stage": row["stage"],
            "failures": row["failures"],
            "worker_id": row["worker_id"],
            "started_at": row["claimed_at"],
            "ended_at": moment,
            "outcome": ending.outcome,
            "became": None if ending.outcome in FOLLOWS else ending.next.status,
            "ended_by": ending.ended_by,
            "error": ending.error,
        }
        for ending, row in found
    ]
    session.connection.execute(sa.insert(attempt), rows)


FOLLOWS = frozenset({Outcome.COMPLETED, Outcome.SUSPENDED, Outcome.CANCELLED})
"""The outcomes that say by themselves what the task became."""


def _write_events(session: Session, found: Sequence[tuple[Ending, Row]], moment: int) -> None:
    rows = [stored_note(note, row, moment, ending.next.status) for ending, row in found for note in ending.notes]
    if rows:
        session.connection.execute(sa.insert(event), rows)


def _move_on(session: Session, ending: Ending, row: Row, moment: int) -> None:
    """Back to pending, or to wait: suspended or paused."""
    changes = {
        "worker_id": None,
        "claimed_at": None,
        "deadline_at": None,
        "failures": ending.next.failures,
        "interruptions": ending.next.interruptions,
        "last_outcome": ending.outcome,
        "error": ending.error if ending.error is not None else row["error"],
        "last_event_type": ending.notes[-1].type if ending.notes else "task_status_changed",
        "last_event_at": moment,
        **_BECOME[ending.next.status](session, ending, row, moment),
    }
    session.connection.execute(sa.update(task).where(task.c.id == row["id"]).values(changes))
    if changes["state"] == "ready":
        wake(session, str(row["type_id"]))


def _pending(session: Session, ending: Ending, row: Row, moment: int) -> dict[str, Any]:
    delay = micros(ending.next.delay) or 0
    over = START_OVER if ending.next.restart else {}
    return {**due(session, moment + delay, moment, row["priority"]), **over}


def due(session: Session, run_at: int, moment: int, priority: int) -> dict[str, Any]:
    """The columns of a pending task that is due at `run_at`."""
    state = "ready" if run_at <= moment else "scheduled"
    return {"state": state, "run_at": run_at, "order_key": run_at - priority * session.priority_step}


START_OVER: dict[str, Any] = {"stage": 0, "context": None, "spawned": None, "children": 0, "open_children": 0}
"""A retry, and a resume from paused, begin again."""


def _suspended(session: Session, ending: Ending, row: Row, moment: int) -> dict[str, Any]:
    waits = {"spawned": row["attempt"], "children": ending.children, "open_children": ending.children}
    return {
        "state": "suspended",
        "context": ending.context if ending.context is not None else row["context"],
        "suspend_reason": ending.suspend_reason,
        **(waits if ending.children else {}),
    }


def _paused(session: Session, ending: Ending, row: Row, moment: int) -> dict[str, Any]:
    return {"state": "paused"}


_BECOME = {Status.PENDING: _pending, Status.SUSPENDED: _suspended, Status.PAUSED: _paused}


def _final_row(ending: Ending, row: Row, moment: int) -> dict[str, Any]:
    return {
        **{name: row[name] for name in SHARED},
        "status": ending.next.status,
        "failures": ending.next.failures,
        "interruptions": ending.next.interruptions,
        "last_outcome": ending.outcome,
        "result": ending.result,
        "error": ending.error,
        "finished_at": moment,
        "suspend_reason": None,
        "last_event_type": f"task_{ending.next.status}",
        "last_event_at": moment,
    }


def finish_tasks(session: Session, rows: Sequence[dict[str, Any]], moment: int) -> None:
    """Move locked hot rows to their end, count them off their parents, and pause the cron tasks that asked for it."""
    if not rows:
        return
    session.connection.execute(sa.delete(task).where(task.c.id.in_([row["id"] for row in rows])))
    session.connection.execute(sa.insert(task_final), list(rows))
    children = Counter((row["parent_id"], row["generation"]) for row in rows if row["parent_id"] is not None)
    for (parent_id, generation), count in sorted(children.items(), reverse=True):
        _count_off(session, parent_id, generation, count, moment)
    failed = [r for r in rows if r["cron_id"] is not None and r["status"] == Status.PERMANENTLY_FAILED]
    if failed:
        pause_after_failure(session, [(row["cron_id"], row["id"]) for row in failed])


def _count_off(session: Session, parent_id: int, generation: int, count: int, moment: int) -> None:
    """So many children of this generation are final; the last of them sends the parent to its next stage."""
    waiting = sa.and_(task.c.id == parent_id, task.c.spawned == generation, task.c.open_children >= count)
    left = task.c.open_children - count
    last = left == 0
    step = sa.literal(session.priority_step, sa.BigInteger)
    change = (
        sa.update(task)
        .where(waiting)
        .values(
            open_children=left,
            state=sa.case((last, "ready"), else_=task.c.state),
            stage=task.c.stage + sa.case((last, 1), else_=0),
            run_at=sa.case((last, moment), else_=task.c.run_at),
            order_key=sa.case((last, moment - task.c.priority * step), else_=task.c.order_key),
            last_event_type=sa.case((last, "task_resumed"), else_=task.c.last_event_type),
            last_event_at=sa.case((last, moment), else_=task.c.last_event_at),
        )
        .returning(task)
    )
    row = session.connection.execute(change).mappings().first()
    if row is not None and row["open_children"] == 0:
        note = Note("task_resumed", 6, "suspended", message="all children are final")
        session.connection.execute(sa.insert(event), [stored_note(note, row, moment, Status.PENDING)])
        wake(session, str(row["type_id"]))
