"""How attempts end: the one way in which a running task stops being run, whoever ends it.

Protocol. An ending names the task, the worker that owns it and its fence; the row must still be running under exactly
these, and, when the owner itself settles, the owner must be an active worker. Whatever ends an attempt goes through
here: the owner (settle), a reaper, a time-out, a pause, a cancel. It moves the row on (to `task_final`, back to pending,
to suspended or paused), writes the attempt's row, and counts a final child off its parent, in one transaction.
What an attempt's end leads to is decided in lifecycle.py, not here.

A settle that matches no row is a stale write, unless the attempt's row says that this very worker ended it with this very
outcome: then the answer to an earlier commit was lost, and it is success.

Locks are taken in descending id: a child's row is above its parent's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from fibflow.errors import LeaseLost
from fibflow.model import FINAL, Outcome, Status
from fibflow.store import claim
from fibflow.store.clock import micros
from fibflow.store.database import Session, write
from fibflow.store.ending import Ending, Key, Row, final_row
from fibflow.store.finish import Awaited, complete_owned, count_off, finish
from fibflow.store.held import unheld
from fibflow.store.notes import stored_note
from fibflow.store.notices import wake
from fibflow.store.stale import record_stale
from fibflow.store.tables import attempt, event, task, worker


@write
def settle(session: Session, worker_id: int, endings: Sequence[Ending]) -> list[LeaseLost]:
    """End attempts of this worker; the stale ones are refused, recorded and returned, the others stand."""
    done = _end_owned(session, worker_id, endings)
    missed = [ending for ending in endings if ending.key not in done]
    stale = [ending for ending in missed if not _ended_so(session, ending)]
    for ending in stale:
        record_stale(session, ending.task_id, ending.fence, worker_id, ending.verb)
    return [LeaseLost(ending.task_id, ending.fence, ending.verb) for ending in stale]


@write
def settle_and_claim(
    session: Session, worker_id: int, endings: Sequence[Ending], lanes: Sequence[claim.Lane], limit: int
) -> tuple[list[LeaseLost], Sequence[claim.Claimed]]:
    """Both in one transaction: what is settled makes room for what is claimed."""
    return settle(session, worker_id, endings), claim.claim(session, worker_id, lanes, limit)


@write
def settle_unheld(session: Session, worker_id: int, endings: Sequence[Ending]) -> tuple[list[LeaseLost], set[Key]]:
    """Settle what waits for nobody; the refusals, and what is left because others hold something that it needs."""
    active(session, worker_id)  # the worker's row is locked before its tasks', here too
    free = unheld(session, endings)
    stale = settle(session, worker_id, free)
    return stale, {ending.key for ending in endings} - {ending.key for ending in free}


def _end_owned(session: Session, worker_id: int, endings: Sequence[Ending]) -> set[Key]:
    """End what is still this worker's, if it is active; on PostgreSQL most of a batch goes in one statement."""
    ordered = sorted((ending for ending in endings if ending.worker_id == worker_id), key=_downwards)
    at_once = session.postgresql
    completed = [ending for ending in ordered if at_once and ending.outcome is Outcome.COMPLETED]
    others = [ending for ending in ordered if not at_once or ending.outcome is not Outcome.COMPLETED]
    done, awaited = complete_owned(session, worker_id, completed) if completed else (set(), [])
    if others and active(session, worker_id):
        more, also = _end(session, others)
        done, awaited = done | more, awaited + also
    count_off(session, awaited)
    return done


def _downwards(ending: Ending) -> int:
    return -ending.task_id


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


def end_attempts(session: Session, endings: Iterable[Ending]) -> set[Key]:
    """End every attempt that is still what its ending says; the keys of those that were."""
    done, awaited = _end(session, sorted(endings, key=_downwards))
    count_off(session, awaited)
    return done


def _end(session: Session, ordered: Sequence[Ending]) -> tuple[set[Key], list[Awaited]]:
    """The same, but for the parents: whom the ended are to be counted off."""
    moment = session.now()
    rows = _locked(session, ordered)
    found = [(ending, rows[ending.task_id]) for ending in ordered if _is_owner(rows.get(ending.task_id), ending)]
    if not found:
        return set(), []
    _write_attempts(session, found, moment)
    _write_events(session, found, moment)
    _move_on(session, [(ending, row) for ending, row in found if ending.next.status not in FINAL], moment)
    awaited = finish(session, [final_row(e, row, moment) for e, row in found if e.next.status in FINAL])
    return {ending.key for ending, _ in found}, awaited


def _locked(session: Session, endings: Sequence[Ending]) -> dict[int, Row]:
    ids = [ending.task_id for ending in endings]
    query = sa.select(task).where(task.c.id.in_(ids)).order_by(task.c.id.desc()).with_for_update()
    return {row["id"]: row for row in session.connection.execute(query).mappings()}


def _is_owner(row: Row | None, ending: Ending) -> bool:
    """Only what runs has a worker, says a CHECK."""
    return row is not None and row["worker_id"] == ending.worker_id and row["attempt"] == ending.fence


Found = Sequence[tuple[Ending, Row]]


def _write_attempts(session: Session, found: Found, moment: int) -> None:
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
            "became": ending.became,
            "ended_by": ending.ended_by,
            "error": ending.error,
        }
        for ending, row in found
    ]
    session.connection.execute(sa.insert(attempt), rows)


def _write_events(session: Session, found: Found, moment: int) -> None:
    rows = [stored_note(note, row, moment, ending.next.status) for ending, row in found for note in ending.notes]
    if rows:
        session.connection.execute(sa.insert(event), rows)


def _move_on(session: Session, found: Found, moment: int) -> None:
    """Back to pending, or to wait: suspended or paused."""
    if not found:
        return
    changes = [_change(session, ending, row, moment) for ending, row in found]
    session.connection.execute(MOVE_ON, changes)
    for type_id in sorted({row["type_id"] for change, (_, row) in zip(changes, found, strict=True) if _is_due(change)}):
        wake(session, str(type_id))


def _is_due(change: dict[str, Any]) -> bool:
    return bool(change["new_state"] == "ready")


MOVED = (
    *("state", "run_at", "order_key", "stage", "context", "spawned", "children", "open_children", "suspend_reason"),
    *("worker_id", "claimed_at", "deadline_at", "failures", "interruptions", "last_outcome", "error"),
    *("last_event_type", "last_event_at"),
)
MOVE_ON = (
    sa.update(task)
    .where(task.c.id == sa.bindparam("moved_id"))
    .values({name: sa.bindparam(f"new_{name}", type_=task.c[name].type) for name in MOVED})
)
"""Moves one locked row; a driver sends many of them in one go (contexts are bytes, which no JSON array holds)."""


def _change(session: Session, ending: Ending, row: Row, moment: int) -> dict[str, Any]:
    """The parameters of MOVE_ON: the row's own values but for what the ending changes."""
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
    return {"moved_id": row["id"], **{f"new_{name}": changes.get(name, row[name]) for name in MOVED}}


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
