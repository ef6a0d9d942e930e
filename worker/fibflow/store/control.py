"""What people do to a task: pause, resume, cancel, redrive. Each takes effect in its own transaction.

A running attempt is ended there and then: its owner is cleared and its later writes are stale. Which verb a status allows
is the table of lifecycle.py.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import IllegalTransition, NotFound
from fibflow.lifecycle import Next, Transition, check
from fibflow.logs import logger
from fibflow.model import Outcome, Status
from fibflow.store.database import Session, write
from fibflow.store.ending import LASTING, Ending, Row
from fibflow.store.finish import count_off, finish
from fibflow.store.notes import BETWEEN, ENDS, Note, stored_note
from fibflow.store.notices import wake
from fibflow.store.paging import identity
from fibflow.store.settle import START_OVER, due, end_attempts
from fibflow.store.snapshot import status_of
from fibflow.store.tables import event, task, task_final, task_type

log = logger(__name__)


@write
def pause(session: Session, task_id: int) -> None:
    """Hold a pending or running task back. Raises NotFound, IllegalTransition."""
    row = _checked(session, task_id, Transition.PAUSE)
    session.after(log.info, "task_paused", task_id=task_id, was=str(_status(row)))
    if row["state"] == "running":
        _end_running(session, row, Outcome.INTERRUPTED, Status.PAUSED, Note("task_paused", ENDS))
    else:
        _update(session, row, {"state": "paused"}, Note("task_paused", BETWEEN, "pending"), Status.PAUSED)


@write
def cancel(session: Session, task_id: int, reason: str | None = None) -> None:
    """End a task that is not final as cancelled; the reason is kept as its error. Raises NotFound, IllegalTransition."""
    reason = encoding.optional_text(reason, "reason") or "Task cancelled"
    row = _checked(session, task_id, Transition.CANCEL)
    session.after(log.info, "task_cancelled", task_id=task_id, was=str(_status(row)), reason=reason)
    if row["state"] == "running":
        _end_running(session, row, Outcome.CANCELLED, Status.CANCELLED, Note("task_cancelled", ENDS, message=reason))
        return
    moment = session.now()
    note = Note("task_cancelled", BETWEEN, _status(row), message=reason)
    session.connection.execute(sa.insert(event), [stored_note(note, row, moment, Status.CANCELLED)])
    ended = {"status": "cancelled", "error": reason, "result": None, "finished_at": moment, "suspend_reason": None}
    last = {"last_event_type": "task_cancelled", "last_event_at": moment}
    count_off(session, finish(session, [{name: row[name] for name in LASTING} | ended | last]))


@write
def resume(session: Session, task_id: int, reason: str | None = None) -> None:
    """Send a paused task back to its start, or a suspended one to its next stage. Raises NotFound, IllegalTransition."""
    reason = encoding.optional_text(reason, "reason") or "manual"
    row = _checked(session, task_id, Transition.RESUME)
    session.after(log.debug, "task_resumed", task_id=task_id, was=str(_status(row)), reason=reason)
    moment = session.now()
    if row["state"] == "paused":
        fresh = {"failures": 0, "interruptions": 0, **START_OVER}
        changes = {**fresh, **due(session, max(row["run_at"], moment), moment, row["priority"])}
    else:
        _refuse_open_children(session, row)
        changes = {"stage": row["stage"] + 1, "suspend_reason": None, **due(session, moment, moment, row["priority"])}
    told = encoding.metadata({"resume_reason": reason})
    _update(session, row, changes, Note("task_resumed", BETWEEN, _status(row), reason, told), Status.PENDING)


@write
def redrive(session: Session, task_id: int) -> None:
    """Start a final task again, under its next attempt. Raises NotFound, IllegalTransition."""
    query = _named(session, task_final, task_id).with_for_update(of=task_final)
    row = session.connection.execute(query).mappings().first()
    if row is None:
        _checked(session, task_id, Transition.REDRIVE)
        raise NotFound("task", task_id, session.namespace)
    session.after(log.debug, "task_redriven", task_id=task_id, was=row["status"])
    moment = session.now()
    silent = {"progress_text": None, "progress_percent": None, "current_stage_name": None}
    again = {"failures": 0, "interruptions": 0, "error": None, "worker_id": None, **silent, **START_OVER}
    last = {"last_event_type": "task_redriven", "last_event_at": moment}
    pending = due(session, max(row["run_at"], moment), moment, row["priority"])
    session.connection.execute(sa.delete(task_final).where(task_final.c.id == task_id))
    session.connection.execute(sa.insert(task), [{n: row[n] for n in LASTING} | again | last | pending])
    note = Note("task_redriven", BETWEEN, row["status"])
    session.connection.execute(sa.insert(event), [stored_note(note, row, moment, Status.PENDING)])
    _await_again(session, row)
    wake(session, str(row["type_id"]))


def _await_again(session: Session, row: Row) -> None:
    """A parent that still waits for the child's generation counts it as open again."""
    waiting = sa.and_(task.c.id == row["parent_id"], task.c.spawned == row["generation"], task.c.open_children > 0)
    session.connection.execute(sa.update(task).where(waiting).values(open_children=task.c.open_children + 1))


def _checked(session: Session, task_id: int, verb: Transition) -> Row:
    """The hot row, locked, of a task that the verb may be used on."""
    row = session.connection.execute(_named(session, task, task_id).with_for_update(of=task)).mappings().first()
    if row is not None:
        check(verb, _status(row))
        return row
    final = session.connection.execute(_named(session, task_final, task_id)).mappings().first()
    if final is not None:
        check(verb, Status(final["status"]))
    raise NotFound("task", task_id, session.namespace)


def _named(session: Session, table: sa.Table, task_id: int) -> sa.Select[Any]:
    """The row of a task of the namespace in one of the tables. Raises InvalidInput."""
    query = sa.select(table).join(task_type, task_type.c.id == table.c.type_id)
    return query.where(table.c.id == identity(task_id), task_type.c.namespace == session.namespace)


def _status(row: Row) -> Status:
    return status_of(row["state"])


def _end_running(session: Session, row: Row, outcome: Outcome, status: Status, note: Note) -> None:
    after = Next(status, row["failures"], row["interruptions"])
    key = (row["id"], row["attempt"], row["worker_id"])
    end_attempts(session, [Ending(*key, outcome, after, error=note.message, ended_by=0, notes=(note,))])
    wake(session, f"w{row['worker_id']}")


def _update(session: Session, row: Row, changes: dict[str, Any], note: Note, status: Status) -> None:
    moment = session.now()
    last = {"last_event_type": note.type, "last_event_at": moment}
    session.connection.execute(sa.update(task).where(task.c.id == row["id"]).values(**changes, **last))
    session.connection.execute(sa.insert(event), [stored_note(note, row, moment, status)])
    if changes["state"] == "ready":
        wake(session, str(row["type_id"]))


def _refuse_open_children(session: Session, row: Row) -> None:
    if row["open_children"]:
        query = sa.select(task.c.id).where(task.c.parent_id == row["id"], task.c.generation == row["spawned"])
        ids = session.connection.execute(query.order_by(task.c.id).limit(10)).scalars().all()
        named = ", ".join(map(str, ids))
        detail = f" while its children {named} are open; wait for them, or cancel them"
        raise IllegalTransition("resume", Status.SUSPENDED, Status.PENDING, detail)
