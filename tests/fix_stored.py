"""A database with rows that a test puts there itself, on SQLite and on PostgreSQL; times are seconds before now."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from fibflow.store import tables
from fibflow.store.database import Database, Session, write
from fibflow.store.migrate import migrate
from fibflow.store.session import NOW

FINAL = {"completed", "permanently_failed", "cancelled"}


@dataclass
class Stored:
    """Puts rows, gives their ids, and reads through verbs."""

    database: Database
    now: int
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    types: dict[tuple[str, str], int] = field(default_factory=dict)

    def call(self, verb: Any, *args: Any, **kwargs: Any) -> Any:
        return self.database.call(verb, *args, **kwargs)

    def put(self, table: sa.Table, **values: Any) -> None:
        self.call(_execute, sa.insert(table).values(values))

    def count(self, table: sa.Table) -> int:
        return int(self.call(_execute, sa.select(sa.func.count()).select_from(table)))

    def ago(self, seconds: float) -> int:
        return self.now - round(seconds * 1_000_000)

    def type_id(self, name: str, namespace: str) -> int:
        if (namespace, name) not in self.types:
            self.types[namespace, name] = len(self.types) + 1
            self.put(tables.task_type, id=len(self.types), namespace=namespace, name=name, source="code")
        return self.types[namespace, name]

    def task(
        self, status: str = "ready", *, type: str = "t", namespace: str = "default", created: float = 100, **given: Any
    ) -> int:
        """A task in a state; `ended` in seconds ago; a child takes its `parent_id`."""
        row: dict[str, Any] = {
            "id": next(self.ids),
            "type_id": self.type_id(type, namespace),
            "priority": 0,
            "run_at": self.ago(created),
            "created_at": self.ago(created),
            "payload": "{}",
        }
        ended = given.pop("ended", 10)
        if "parent_id" in given:
            row |= {"root_id": given["parent_id"], "generation": 1}
        if status in FINAL:
            table, extra = tables.task_final, {"status": status, "finished_at": self.ago(ended)}
        else:
            table, extra = tables.task, {"state": status, "order_key": self.ago(created)}
        if status == "running":
            extra |= {"worker_id": 1, "claimed_at": self.ago(5), "deadline_at": self.ago(-60), "attempt": 1}
        if status == "suspended":
            extra |= {"attempt": 1} | ({} if given.get("open_children") else {"suspend_reason": "approval"})
        if status in ("completed", "permanently_failed"):
            extra |= {"attempt": 1, "error": "broken" if status == "permanently_failed" else None}
        row |= {**extra, **given}
        if row.get("attempt"):
            row.setdefault("started_at", self.ago(50))
        self.put(table, **row)
        return int(row["id"])

    def attempt(self, task_id: int, number: int = 1, outcome: str = "completed", **given: Any) -> None:
        """An ended attempt; `started` and `ended` in seconds ago."""
        row: dict[str, Any] = {
            "task_id": task_id,
            "attempt": number,
            "stage": 0,
            "failures": 0,
            "worker_id": 1,
            "started_at": self.ago(given.pop("started", 20)),
            "ended_at": self.ago(given.pop("ended", 10)),
            "outcome": outcome,
        }
        self.put(tables.attempt, **{**row, **given})

    def event(self, task_id: int, type: str, attempt: int, phase: int, at: float, **given: Any) -> None:
        row: dict[str, Any] = {"task_id": task_id, "type": type, "attempt": attempt, "phase": phase, "stage": 0}
        self.put(tables.event, **{**row, "at": self.ago(at), **given})

    def worker(self, worker_id: int, **given: Any) -> None:
        row: dict[str, Any] = {
            "id": worker_id,
            "namespace": "default",
            "pod_id": f"pod-{worker_id}",
            "host": "h",
            "pid": 7,
            "slots": 2,
            "status": "active",
            "lease": 30_000_000,
            "registered_at": self.ago(90),
            "renewed_at": self.ago(1),
            "expires_at": self.ago(-30),
        }
        self.put(tables.worker, **{**row, **given})


@write
def _execute(session: Session, query: sa.Executable) -> Any:
    found = session.connection.execute(query)
    return found.scalar_one() if isinstance(query, sa.Select) else None


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest) -> Iterator[Stored]:
    """An empty database with the tables, of either kind."""
    url = "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = Database(url)
    if not database.postgresql:
        migrate(database)
    yield Stored(database, database.call(_execute, NOW))
    database.close()
