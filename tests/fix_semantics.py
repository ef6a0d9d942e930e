"""Real workers on a database of either kind, watched by a plain test: it enqueues, waits for rows, and looks.

The workers of a test share an event loop in a thread of its own, and have connections of their own, so that a test can
take one's away. They look often and their leases are long, so that a moved clock ends no lease that a test did not make
short. A worker that is only a row, moved by hand, stands for one that is dead, stopped, or slow.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from fibflow import App, Client, Outcome, Status
from fibflow.errors import LeaseLost
from fibflow.lifecycle import Facts, Next, ended
from fibflow.model import FINAL, Task, TaskId
from fibflow.plain_verbs import NO_PAYLOAD
from fibflow.records import Worker as WorkerRow
from fibflow.store import claim, leases, settle
from fibflow.store.database import Database, Session, write
from fibflow.store.ending import Ending
from fibflow.store.tables import worker as worker_table
from fibflow_worker.runtime import Settings, State, Worker
from fix_database import move_clock

R = TypeVar("R")

QUICK: dict[str, Any] = {"slots": 4, "poll_interval": 0.02, "heartbeat_interval": 0.05, "lease": 3600, "drain": 5}
PATIENCE = 15.0
"""Seconds after which a test has waited in vain."""


def until(condition: Callable[[], R], seconds: float = PATIENCE) -> R:
    """Wait until the condition holds; what it gave."""
    deadline = time.monotonic() + seconds
    while not (held := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return held


def serving(**handlers: Callable[..., Any]) -> App:
    """An application with these handlers, each of the type that its name says."""
    app = App()
    for name, function in handlers.items():
        app.add(name, function)
    return app


class Gate:
    """A place in a handler where it waits for the test: `wait` in a thread, `passed` in a coroutine."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def wait(self) -> None:
        self._reached.set()
        assert self._opened.wait(PATIENCE), "nobody opened the gate"

    async def passed(self) -> None:
        self._reached.set()
        while not self._opened.is_set():
            await asyncio.sleep(0.005)

    def reached(self) -> None:
        """Wait until a handler stands here."""
        assert self._reached.wait(PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


@dataclass
class Workplace:
    """A database, a client of it, and the workers that a test starts there."""

    database: Database
    url: str
    loop: asyncio.AbstractEventLoop
    client: Client = field(init=False)
    running: dict[Worker, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.client = Client(self.database)

    # ── real workers ──────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, app: App, *, namespace: str = "default", **settings: Any) -> Worker:
        """A worker that serves the app, registered and running; its types are declared."""
        connections = self.connections(namespace)
        app.sync(connections)
        return self.run(Worker(app, connections, Settings(**QUICK | settings)))

    def run(self, worker: Worker) -> Worker:
        """The worker, registered and running."""
        self.running[worker] = asyncio.run_coroutine_threadsafe(worker.run(), self.loop)
        until(lambda: worker.state is not State.INIT or self.running[worker].done())
        if self.running[worker].done():
            self.running[worker].result()
        return worker

    def stop(self, worker: Worker) -> None:
        """Stop a worker, and wait until it has drained."""
        self.tell(worker.stop)
        self.left(worker)

    def left(self, worker: Worker) -> None:
        """Wait until a worker that was told to stop has drained."""
        self.running[worker].result(PATIENCE)

    def tell(self, method: Callable[[], R]) -> R:
        """Call a method of a worker where it runs."""

        async def told() -> R:
            return method()

        return self.within(told())

    def within(self, awaited: Coroutine[Any, Any, R]) -> R:
        """Await something in the workers' loop."""
        return asyncio.run_coroutine_threadsafe(awaited, self.loop).result(PATIENCE)

    def connections(self, namespace: str = "default") -> Database:
        """Another program's view of the database; it sees the same clock."""
        other = Database(self.url, namespace=namespace)
        other.clock = self.database.clock
        return other

    def beats(self, worker_id: int, times: int = 2) -> None:
        """Wait until the worker has renewed its lease so often; with two, it has swept in between."""
        for _ in range(times):
            last = self.worker(worker_id).renewed_at
            until(partial(self._renewed_after, worker_id, last))

    def _renewed_after(self, worker_id: int, moment: datetime) -> bool:
        return self.worker(worker_id).renewed_at > moment

    def worker(self, worker_id: int) -> WorkerRow:
        """The row of a worker."""
        (row,) = (row for row in self.client.workers() if row.id == worker_id)
        return row

    # ── what a test waits for ─────────────────────────────────────────────────────────────────────────────────────

    def becomes(self, task_id: int, status: Status) -> Task:
        """The task, as soon as it has the status."""
        until(lambda: self.client.get(task_id).status is status)
        return self.client.get(task_id)

    def ended(self, task_id: int) -> Task:
        """The task, as soon as it is final."""
        until(lambda: self.client.get(task_id).status in FINAL)
        return self.client.get(task_id)

    def outcome(self, type: str, payload: Any = NO_PAYLOAD, **options: Any) -> Task:
        """What becomes of a new task."""
        return self.ended(self.client.enqueue(type, payload, **options))

    def move_clock(self, seconds: float) -> None:
        """Step the database's clock on for everybody."""
        move_clock(self.database, seconds)

    # ── a worker moved by hand ────────────────────────────────────────────────────────────────────────────────────

    def registered(self, pod_id: str | None = None, *, lease: float = 3600, **given: Any) -> int:
        """A worker that is only a row; its id."""
        return self.database.call(leases.register, pod_id=pod_id, host="host", pid=1, slots=10, lease=lease, **given)

    def claimed(self, worker_id: int, type: str, limit: int = 10) -> list[Any]:
        """What this worker can claim of a type; the rows are its attempts now."""
        (kind,) = (kind for kind in self.client.types() if kind.name == type)
        return list(self.database.call(claim.claim, worker_id, [claim.Lane(kind.id, limit)], limit))

    def taken(self, worker_id: int, type: str, payload: Any = NO_PAYLOAD, **options: Any) -> Any:
        """A new task that this worker has claimed; its row."""
        task_id = self.client.enqueue(type, payload, **options)
        (row,) = self.claimed(worker_id, type)
        assert row.id == task_id
        return row

    def settled(
        self, worker_id: int, row: Any, outcome: Outcome = Outcome.COMPLETED, after: Next | None = None, **parts: Any
    ) -> list[LeaseLost]:
        """This worker ends an attempt; the refusal, if it is stale."""
        following = after or ended(Facts(), outcome)
        ending = Ending(row.id, row.attempt, worker_id, outcome, following, **parts)
        return self.database.call(settle.settle, worker_id, [ending])

    def evict(self, worker_id: int, status: str = "reaped") -> None:
        """Take the lease away from a worker, and leave its tasks where they are."""
        lost = sa.update(worker_table).where(worker_table.c.id == worker_id).values(status=status, ended_at=0)
        self.database.call(_execute, lost)

    # ── what fails ────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def refusing(self, table: str, condition: str) -> Iterator[None]:
        """As long as it lasts, the database refuses every update to a row NEW that meets the condition."""
        for statement in _REFUSE[self.database.postgresql]:
            self.database.call(_execute, sa.text(statement.format(table=table, condition=condition)))
        yield
        for statement in _ACCEPT[self.database.postgresql]:
            self.database.call(_execute, sa.text(statement.format(table=table)))

    # ── what is told of a task ────────────────────────────────────────────────────────────────────────────────────

    def events(self, task_id: int) -> list[str]:
        """The types of the task's events, in order, without their `task_`."""
        return [event.type.removeprefix("task_") for event in self.client.events(task_id).items]

    def outcomes(self, task_id: int) -> list[str | None]:
        """How the task's attempts ended, in order."""
        return [attempt.outcome and str(attempt.outcome) for attempt in self.client.attempts(task_id).items]

    def children(self, task_id: int) -> list[TaskId]:
        """The ids of all children that the task ever had."""
        return [task.id for task in self.client.tasks(parent_id=task_id).items]


@write
def _execute(session: Session, statement: sa.Executable) -> None:
    session.connection.execute(statement)


_REFUSE = {
    False: [
        "CREATE TRIGGER refuse BEFORE UPDATE ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused on purpose'); END"
    ],
    True: [
        "CREATE FUNCTION fibflow.refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'refused on purpose'; END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON fibflow.{table} FOR EACH ROW WHEN ({condition})"
        " EXECUTE FUNCTION fibflow.refuse()",
    ],
}
_ACCEPT = {
    False: ["DROP TRIGGER refuse"],
    True: ["DROP TRIGGER refuse ON fibflow.{table}", "DROP FUNCTION fibflow.refuse"],
}


@pytest.fixture
def workplace(database: Database, database_url: str) -> Iterator[Workplace]:
    """A place for workers on a migrated database, once for each kind; they are stopped when the test is over."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="workplace")
    thread.start()
    place = Workplace(database, database_url, loop)
    try:
        yield place
        place.within(_close(place))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(place: Workplace) -> None:
    """A worker that ended with an exception fails the test, whatever the test saw of it."""
    for worker in place.running:
        worker.stop()
    ended = await asyncio.gather(*map(asyncio.wrap_future, place.running.values()), return_exceptions=True)
    for worker in place.running:
        await worker.database.aclose()
    for error in filter(None, ended):
        raise error
