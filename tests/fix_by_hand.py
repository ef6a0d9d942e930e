"""A worker that a test moves by hand: it claims and ends attempts one by one, and nothing happens in between.

For what is told of tasks, where a real worker would only be slower. Types `work` and `other` are declared.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from fibflow import Client, NewTask, Outcome
from fibflow.lifecycle import Next, after_failure, after_release, ended
from fibflow.model import WorkerId
from fibflow.plain_verbs import NO_PAYLOAD
from fibflow.store import claim, leases, polling, record, settle
from fibflow.store.claim import Claimed
from fibflow.store.database import Database, Session, write
from fibflow.store.ending import Ending
from fibflow.store.notes import ENDS, Note
from fibflow.store.tasktypes import Declaration
from fix_database import move_clock


@dataclass
class Hand:
    """A registered worker, and a client to look at what it does."""

    database: Database
    pod_id: str | None = None
    client: Client = field(init=False)
    worker_id: WorkerId = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.database)
        self.client.declare_types([Declaration("work"), Declaration("other")])
        self.register()

    def register(self) -> None:
        """Become a new worker, which supersedes the one of its pod."""
        made = self.database.call(leases.register, pod_id=self.pod_id, host="host", pid=1, slots=10, lease=3600)
        self.worker_id = WorkerId(made)

    def move_clock(self, seconds: float) -> None:
        move_clock(self.database, seconds)

    # ── attempts ──────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, type: str = "work", limit: int = 1) -> list[Claimed]:
        """What is due of a type, attempts now."""
        self.database.call(polling.promote)
        (kind,) = (kind for kind in self.client.types() if kind.name == type)
        return list(self.database.call(claim.claim, self.worker_id, [claim.Lane(kind.id, limit)], limit))

    def take(self, type: str = "work", payload: Any = NO_PAYLOAD, **options: Any) -> Claimed:
        """A new task's first attempt."""
        task_id = self.client.enqueue(type, payload, **options)
        return self.again(task_id, type)

    def again(self, task_id: int, type: str = "work") -> Claimed:
        """The next attempt of a task that is due."""
        (row,) = self.claim(type)
        assert row.id == task_id
        return row

    def complete(self, row: Claimed, result: str = "null") -> None:
        self.end(row, Outcome.COMPLETED, result=result)

    def fail(self, row: Claimed, error: str = "broken", *, retryable: bool = True, outcome: Outcome = Outcome.FAILED) -> None:
        self.end(row, outcome, after_failure(row.facts, retryable=retryable), error=error)

    def release(self, row: Claimed) -> None:
        """Give a claim back, as a worker does that drains."""
        self.end(row, Outcome.INTERRUPTED, after_release(row.facts))

    def suspend(self, row: Claimed, reason: str = "approval", **parts: Any) -> None:
        note = Note("task_suspended", ENDS, message=reason)
        self.end(row, Outcome.SUSPENDED, suspend_reason=reason, notes=(note,), **parts)

    def spawn(self, row: Claimed, *children: NewTask) -> list[int]:
        """End the attempt with children; their ids."""
        note = Note("task_suspended", ENDS, message=f"waits for {len(children)} children")
        ending = self._ending(row, Outcome.SUSPENDED, None, children=len(children), notes=(note,))
        assert self.database.call(record.spawn, self.worker_id, ending, children) == []
        return [child.id for child in self.client.children(row.id)]

    def report(self, row: Claimed, **told: Any) -> None:
        """Report progress."""
        parts = dict.fromkeys(("text", "stage_name", "percent", "message", "metadata")) | told
        note, snapshot = record.progress_note(**parts)
        assert self.database.call(record.note_running, self.worker_id, row.id, row.attempt, note, snapshot) is None

    def checkpoint(self, row: Claimed, code: str) -> None:
        note = record.checkpoint_note(code, None, None)
        assert self.database.call(record.note_running, self.worker_id, row.id, row.attempt, note, {}) is None

    def end(self, row: Claimed, outcome: Outcome, after: Next | None = None, **parts: Any) -> None:
        """End an attempt that is this worker's."""
        assert self.database.call(settle.settle, self.worker_id, [self._ending(row, outcome, after, **parts)]) == []

    def _ending(self, row: Claimed, outcome: Outcome, after: Next | None, **parts: Any) -> Ending:
        following = after or ended(row.facts, outcome)
        return Ending(row.id, row.attempt, self.worker_id, outcome, following, **parts)

    # ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def execute(self, statement: sa.Executable) -> Any:
        """Run a statement on the tables; the first value of what it gives."""
        return self.database.call(_execute, statement)


@write
def _execute(session: Session, statement: sa.Executable) -> Any:
    found = session.connection.execute(statement)
    return found.scalar() if found.returns_rows else None


@pytest.fixture
def hand(database: Database) -> Hand:
    """A worker moved by hand on a migrated database, once for each kind."""
    return Hand(database)
