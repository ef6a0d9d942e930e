"""Events that are stored because nothing else tells them, and where they stand in their task's order.

The order of a task's events is (attempt, phase, id): phases 1 and 2 are the claim and the start, 3 is what the handler
told, 4 is the attempt's end, 5 what followed from it, 6 what happened between two attempts. Reading adds the events that
follow from tasks and attempts (derived.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RUNS, ENDS, FOLLOWS, BETWEEN = 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Note:
    """An event to store: its type, its phase, the status before it, and what it tells (`metadata` is JSON text)."""

    type: str
    phase: int
    from_status: str | None = "running"
    message: str | None = None
    metadata: str | None = None
    worker_id: int | None = None


def stored_note(note: Note, row: Mapping[str, Any], moment: int, status: str | None) -> dict[str, Any]:
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
