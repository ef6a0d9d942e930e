"""Real workers on a database of either kind, watched by a plain test: it enqueues, waits for rows, and looks.

The workers of a test share an event loop in a thread of its own, and have connections of their own, so that a test can
take one's away. They look often and their leases are long, so that a moved clock ends no lease that a test did not make
short. A worker that is only a row, moved by hand, stands for one that is dead, stopped, or slow.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from fibflow import App, Client, Status
from fibflow.model import FINAL, Task, TaskId
from fibflow.store import claim, leases
from fibflow.store.database import Database
from fibflow_worker.runtime import Settings, Worker
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
        time.sleep(0.005)
    return held


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
        worker = Worker(app, connections, Settings(**QUICK | settings))
        self.running[worker] = asyncio.run_coroutine_threadsafe(worker.run(), self.loop)
        until(lambda: worker.worker_id or self.running[worker].done())
        if self.running[worker].done():
            self.running[worker].result()
        return worker

    def stop(self, worker: Worker) -> None:
        """Stop a worker, and wait until it has drained."""
        self.tell(worker.stop)
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

    # ── what a test waits for ─────────────────────────────────────────────────────────────────────────────────────

    def becomes(self, task_id: int, status: Status) -> Task:
        """The task, as soon as it has the status."""
        until(lambda: self.client.get(task_id).status is status)
        return self.client.get(task_id)

    def ended(self, task_id: int) -> Task:
        """The task, as soon as it is final."""
        until(lambda: self.client.get(task_id).status in FINAL)
        return self.client.get(task_id)

    def outcome(self, type: str, payload: Any = None, **options: Any) -> Task:
        """What becomes of a new task."""
        return self.ended(self.client.enqueue(type, payload, **options))

    def move_clock(self, seconds: float) -> None:
        """Step the database's clock on for everybody."""
        move_clock(self.database, seconds)
        for worker in self.running:
            worker.database.close()
            if worker.database.postgresql:
                self.within(worker.database.async_engine.dispose())

    # ── a worker moved by hand ────────────────────────────────────────────────────────────────────────────────────

    def registered(self, pod_id: str | None = None, *, lease: float = 3600, **given: Any) -> int:
        """A worker that is only a row; its id."""
        return self.database.call(leases.register, pod_id=pod_id, host="host", pid=1, slots=10, lease=lease, **given)

    def claimed(self, worker_id: int, type: str, limit: int = 10) -> list[Any]:
        """What this worker can claim of a type; the rows are its attempts now."""
        (kind,) = (kind for kind in self.client.types() if kind.name == type)
        return list(self.database.call(claim.claim, worker_id, [claim.Lane(kind.id, limit)], limit))

    def taken(self, worker_id: int, type: str, payload: Any = None, **options: Any) -> Any:
        """A new task that this worker has claimed; its row."""
        task_id = self.client.enqueue(type, payload, **options)
        (row,) = self.claimed(worker_id, type)
        assert row.id == task_id
        return row

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


@pytest.fixture
def workplace(database: Database, database_url: str) -> Iterator[Workplace]:
    """A place for workers on a migrated database, once for each kind; they are stopped when the test is over."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="workplace")
    thread.start()
    place = Workplace(database, database_url, loop)
    try:
        yield place
    finally:
        place.within(_close(place))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(place: Workplace) -> None:
    for worker in place.running:
        worker.stop()
    await asyncio.gather(*map(asyncio.wrap_future, place.running.values()), return_exceptions=True)
    for worker in place.running:
        await worker.database.aclose()
