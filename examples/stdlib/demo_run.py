"""One run of the workflow, from outside: through the client only, as any program would follow and steer it.

What must be true of it is in demo_claims.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from demo_claims import Fate, Held, History, Kill, Recovery, fates, recoveries
from demo_dev import Dev
from demo_screen import REMARKABLE, Screen
from fibflow import Client
from fibflow.errors import DatabaseUnavailable, SchemaMismatch, UnknownTaskType
from fibflow.model import FINAL, Attempt, Event, EventType, Status, Task, TaskId
from fibflow.records import Tick, Worker

POLL = 0.2
TICKS = 4
"""So many ticks are waited for, however fast the workflow is."""
CRON = "every-two-seconds"
LONGEST_PAGE = 10_000

T = TypeVar("T")


class WorkflowFailed(Exception):
    """The workflow ended, but not as it should."""


class Run:
    """Polls, shows what is new, and acts when it is time."""

    def __init__(self, client: Client, dev: Dev, screen: Screen, payload: dict[str, str]) -> None:
        self._client, self._dev, self._screen = client, dev, screen
        self._root: TaskId | None = None
        self._root = self._until("fibflow dev is up", lambda: self._enqueue(payload))
        screen.say(f"Enqueued the workflow as task {self._root}, for three workers with two slots each.")

    def kill_until_recovered(self) -> Kill:
        """SIGKILL a worker that holds tasks, and wait until others have taken them back."""
        while not self._recovered(kill := self._kill_the_busiest()):
            self._screen.say("It had just settled all it held: once more.")
        return kill

    def approve(self) -> None:
        self._until("the workflow awaits approval", lambda: self.root.suspend_reason == "awaiting_approval")
        self._client.resume(self.root.id, reason="approved by the demo")
        self._screen.say("The workflow awaited approval and was [green]approved[/].")

    def complete(self) -> None:
        self._until("the workflow completes", lambda: self.root.status is Status.COMPLETED)
        self._screen.say("The workflow [green]completed[/].")

    def tick(self) -> Sequence[Tick]:
        """The ticks decided by now, when they are enough and the task of each has completed."""
        self._until("the cron task has ticked", lambda: len(self._ticks()) >= TICKS)
        ticks = self._ticks()
        self._until("every tick has run", lambda: {tick.task_id for tick in ticks} <= self._ticked())
        return ticks

    @property
    def root(self) -> Task:
        assert self._root is not None, "nothing is asked of a run before it was enqueued"
        return self._client.get(self._root)

    def children(self) -> Sequence[Task]:
        return self._client.tasks(parent_id=self.root.id, limit=LONGEST_PAGE).items

    def history(self, package: str) -> History:
        (task,) = self._client.tasks(parent_id=self.root.id, tag=package).items
        return History(package, self._client.attempts(task.id).items)

    def recoveries(self, kill: Kill) -> Sequence[Recovery]:
        workers = {worker.id: worker for worker in self._client.workers()}
        events = [event for id in self._held(kill) for event in self._client.events(id).items]
        return recoveries(kill, [*self._events([EventType.RECOVERED]), *events], self._attempts(kill), workers)

    def fates(self, kill: Kill) -> Sequence[Fate]:
        return fates(kill, self._attempts(kill), self.recoveries(kill))

    def _attempts(self, kill: Kill) -> Sequence[Attempt]:
        attempts = self._client.workflow_attempts(self.root.id, limit=LONGEST_PAGE).items
        return [*attempts, *(attempt for id in self._held(kill) for attempt in self._client.attempts(id).items)]

    def _held(self, kill: Kill) -> Sequence[TaskId]:
        """What it held that is no part of the workflow: ticks."""
        return [held.task_id for held in kill.held if self._client.get(held.task_id).root_id != self.root.id]

    def timeline(self, id: TaskId) -> Sequence[Event]:
        return self._client.events(id).items

    def _enqueue(self, payload: dict[str, str]) -> TaskId | None:
        # Until `fibflow dev` has made the tables and read the manifests there is nothing to enqueue into.
        with contextlib.suppress(DatabaseUnavailable, SchemaMismatch, UnknownTaskType):
            return self._client.enqueue("index_stdlib", payload)
        return None

    def _recovered(self, kill: Kill) -> bool:
        self._until("its tasks are recovered", lambda: self.recoveries(kill) or self._is_over(kill.worker))
        return bool(self.recoveries(kill))

    def _is_over(self, killed: Worker) -> bool:
        """Whether its successor is there, who takes back in one transaction whatever it had not settled."""
        return any(worker.id == killed.id and worker.ended_at is not None for worker in self._client.workers())

    def _kill_the_busiest(self) -> Kill:
        worker = self._until("a worker holds tasks", self._busiest)
        running = self._client.tasks(status=Status.RUNNING, limit=LONGEST_PAGE).items
        os.kill(worker.pid, signal.SIGKILL)
        held = [Held(task.id, task.attempt, task.tag or task.type) for task in running if task.worker_id == worker.id]
        kill = Kill(worker, datetime.now(UTC), held)
        seen = " and ".join(map(str, held)) or "nothing any more"
        self._screen.say(f"[red]Killed[/] worker {worker.id} in pod {worker.pod_id}, which was last seen with {seen}.")
        return kill

    def _busiest(self) -> Worker | None:
        alive = [worker for worker in self._client.workers() if worker.ended_at is None and worker.running > 1]
        return max(alive, key=lambda worker: worker.running, default=None)

    def _ticks(self) -> Sequence[Tick]:
        return self._client.ticks(CRON, limit=LONGEST_PAGE, order="asc").items

    def _ticked(self) -> set[TaskId | None]:
        # A skipped instant has no task, and so nothing to wait for: None is among them.
        completed = self._client.tasks(type="tick", status=Status.COMPLETED, limit=LONGEST_PAGE).items
        return {None, *(task.id for task in completed)}

    def _events(self, types: Iterable[EventType]) -> Sequence[Event]:
        return self._client.workflow_events(self.root.id, types=types, limit=LONGEST_PAGE).items

    def _until(self, what: str, wanted: Callable[[], T | None]) -> T:
        """Poll until `wanted` gives something true. What is not to last for ever is ended by the demo's deadline."""
        self._screen.wait_for(what)
        while not (result := wanted()):
            self._dev.check()
            self._show()
            time.sleep(POLL)
        return result

    def _show(self) -> None:
        if self._root is None:
            return
        root = self.root
        self._screen.progress(root)
        self._screen.tell(self._events(REMARKABLE), {child.id: child.tag for child in self.children()})
        if root.status in FINAL - {Status.COMPLETED}:
            raise WorkflowFailed(f"the workflow, task {root.id}, ended {root.status}: {root.error}")
