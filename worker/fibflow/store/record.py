"""What a running attempt writes besides its end: children, progress, checkpoints. Each write matches the fence.

A write that matches no row is refused with LeaseLost, recorded, and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import InvalidInput, LeaseLost
from fibflow.model import AWAITING_SUBTASKS, NewTask, Options
from fibflow.store.clock import seconds
from fibflow.store.database import Session, write
from fibflow.store.ending import Ending, Row
from fibflow.store.enqueue import Parentage, insert_tasks
from fibflow.store.notes import ENDS, RUNS, Note, stored_note
from fibflow.store.settle import active, end_attempts, settle
from fibflow.store.stale import record_stale
from fibflow.store.tables import event, task


@write
def spawn(session: Session, worker_id: int, ending: Ending, children: Sequence[NewTask]) -> list[LeaseLost]:
    """End the attempt as suspended and create its children, or, when it is stale, do neither and say so.

    Raises InvalidInput, UnknownTaskType.
    """
    if not children:
        raise InvalidInput("children", [], "is empty; return a value, or spawn at least one child")
    row = _running(session, worker_id, ending.task_id, ending.fence)
    if row is None:
        return settle(session, worker_id, [ending])
    ids = insert_tasks(session, children, _parentage(row))
    created = Note("task_subtasks_created", ENDS, metadata=_created(row, ids, children))
    suspended = Note("task_suspended", ENDS, message=AWAITING_SUBTASKS)
    end_attempts(session, [replace(ending, notes=(created, suspended))])
    return []


NAMED_CHILDREN = 1000
"""So many of its children's ids are in the event of a spawn; all of them are found by their parent."""


def _created(row: Row, ids: Sequence[int], children: Sequence[NewTask]) -> str | None:
    told = {
        "child_count": len(ids),
        "child_task_ids": ids[:NAMED_CHILDREN],
        "child_task_names": sorted({child.type for child in children}),
        "generation": row["attempt"],
    }
    return encoding.metadata(told)


def _parentage(row: Row) -> Parentage:
    options = Options(
        timeout=seconds(row["timeout"]),
        max_attempts=row["max_attempts"],
        backoff=seconds(row["backoff"]),
        backoff_factor=row["backoff_factor"],
        max_backoff=seconds(row["max_backoff"]),
        priority=row["priority"],
    )
    return Parentage(row["id"], row["root_id"] or row["id"], row["attempt"], options)


def _running(session: Session, worker_id: int, task_id: int, fence: int) -> Row | None:
    """The attempt's row, locked, while this worker owns it."""
    owner = sa.and_(task.c.id == task_id, task.c.worker_id == worker_id, task.c.attempt == fence)
    query = sa.select(task).where(owner).with_for_update()
    return session.connection.execute(query).mappings().first() if active(session, worker_id) else None


@write
def note_running(
    session: Session, worker_id: int, task_id: int, fence: int, note: Note, snapshot: dict[str, Any]
) -> LeaseLost | None:
    """Store what a handler told of its attempt, and what of it the task shows; the refusal of a stale one."""
    row = _running(session, worker_id, task_id, fence)
    verb = note.type.removeprefix("task_")
    if row is None:
        record_stale(session, task_id, fence, worker_id, verb)
        return LeaseLost(task_id, fence, verb)
    moment = session.now()
    last = {"last_event_type": note.type, "last_event_at": moment}
    session.connection.execute(sa.update(task).where(task.c.id == task_id).values(**snapshot, **last))
    session.connection.execute(sa.insert(event), [stored_note(note, row, moment, "running")])
    return None


@write
def note_unless_noted(
    session: Session, worker_id: int, task_id: int, fence: int, note: Note, snapshot: dict[str, Any]
) -> LeaseLost | None:
    """The same, after its answer was lost: what is the attempt's last note already is not stored again."""
    of_attempt = sa.and_(event.c.task_id == task_id, event.c.attempt == fence, event.c.phase == RUNS)
    query = sa.select(event.c.type, event.c.message, event.c.metadata).where(of_attempt).order_by(event.c.id.desc()).limit(1)
    last = session.connection.execute(query).first()
    if last is not None and tuple(last) == (note.type, note.message, note.metadata):
        return None
    return note_running(session, worker_id, task_id, fence, note, snapshot)


def progress_note(
    text: str | None, stage_name: str | None, percent: float | None, message: str | None, metadata: object
) -> tuple[Note, dict[str, Any]]:
    """A progress report, checked, and the columns that it changes. Raises InvalidInput."""
    if text is None and stage_name is None and percent is None:
        raise InvalidInput("progress", None, "says nothing; give a text, a stage_name or a percent")
    told: dict[str, Any] = {}
    if text is not None:
        told["progress_text"] = encoding.trimmed(text, "text")
    if stage_name is not None:
        told["stage_name"] = encoding.snake_case(stage_name, "stage_name")
    if percent is not None:
        told["progress_percent"] = int(encoding.number(percent, "percent", 0, 100))  # what is not done is not rounded up
    said = told.get("progress_text") or told.get("stage_name") or "task progress updated"
    return _told("task_progress", message, said, metadata, told), {_COLUMN.get(name, name): told[name] for name in told}


_COLUMN = {"stage_name": "current_stage_name"}
"""What a progress report calls otherwise than the task."""


def checkpoint_note(code: str, message: str | None, metadata: object) -> Note:
    """A checkpoint, checked. Raises InvalidInput."""
    told = {"code": encoding.snake_case(code, "code")}
    return _told("task_checkpoint", message, told["code"], metadata, told)


def _told(type: str, message: str | None, otherwise: str, metadata: object, told: dict[str, Any]) -> Note:
    """A handler's note: its own metadata, over which what it told by name wins."""
    encoding.metadata(metadata)
    given = dict(metadata) if isinstance(metadata, Mapping) else {}
    said = otherwise if message is None else encoding.trimmed(message, "message")
    return Note(type, RUNS, message=said, metadata=encoding.metadata({**given, **told}))
