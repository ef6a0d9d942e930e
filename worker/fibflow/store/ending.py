"""The end of one attempt as a value: whose it was, how it ended, and what its task becomes.

settle.py ends attempts, finish.py moves tasks to their end; what an outcome leads to was decided in lifecycle.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.lifecycle import Next
from fibflow.model import Outcome
from fibflow.store.notes import Note
from fibflow.store.tables import task, task_final

Row = sa.RowMapping
Key = tuple[int, int]
"""(task, fence): an attempt."""


@dataclass(slots=True)
class Ending:
    """Not frozen, for one is made in every attempt: it must cost little. Nobody changes one."""

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
    notes: tuple[Note, ...] = ()

    @property
    def key(self) -> Key:
        return self.task_id, self.fence

    @property
    def verb(self) -> str:
        """What its worker does to the task."""
        return "spawn" if self.children else VERB[self.outcome]

    @property
    def became(self) -> str | None:
        """What the task became, unless the outcome says it by itself."""
        return None if self.outcome in TELLING else self.next.status


TELLING = frozenset({Outcome.COMPLETED, Outcome.SUSPENDED, Outcome.CANCELLED})
"""The outcomes that say by themselves what the task became."""

VERB = {
    Outcome.COMPLETED: "complete",
    Outcome.FAILED: "fail",
    Outcome.TIMEOUT: "time_out",
    Outcome.INTERRUPTED: "interrupt",
    Outcome.SUSPENDED: "suspend",
    Outcome.CANCELLED: "cancel",
}

LASTING = tuple(column.name for column in task_final.c if column.name in task.c)
"""The columns of hot tasks and of final ones: what a task takes along when it ends, and when it is redriven."""


def final_row(ending: Ending, row: Row, moment: int) -> dict[str, Any]:
    """The row of `task_final` that a locked hot row becomes by this ending."""
    return {
        **{name: row[name] for name in LASTING},
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
