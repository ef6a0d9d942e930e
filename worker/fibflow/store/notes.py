"""Events that are stored because nothing else tells them, and where they stand in their task's order.

The order of a task's events is (attempt, phase, id). Reading adds the events that follow from tasks and attempts
(derived.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

CREATED, CLAIMED, STARTED, RUNS, ENDS, FOLLOWS, BETWEEN, REFUSED = range(8)
"""The phases: a task is created, then an attempt of it is claimed and started, its handler tells something, it ends, and
something follows from that; then what happens between two attempts, and the attempt's writes that came too late.
"""


@dataclass(frozen=True, slots=True)
class Note:
    """An event to store: its type, its phase, the status before it, and what it tells (`metadata` is JSON text)."""

    type: str
    phase: int
    from_status: str | None = "running"
    message: str | None = None
    metadata: str | None = None
    worker_id: int | None = None


def stored_note(note: Note, row: sa.RowMapping, moment: int, status: str | None) -> dict[str, Any]:
    """The row of a note on a task: `row` is the task as it was, `status` what it became."""
    return {
        "task_id": row["id"],
        "attempt": row["attempt"],
        "phase": note.phase,
        "type": note.type,
        "at": moment,
        "stage": row["stage"],
        "from_status": note.from_status,
        "to_status": status,
        "worker_id": note.worker_id if note.worker_id is not None else row["worker_id"],
        "message": note.message,
        "metadata": note.metadata,
    }
