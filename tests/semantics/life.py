"""What tasks, attempts and workers are to do, as plainly as it can be said: the model that the databases are held to.

It knows nothing of SQL, of time, or of two things at once: a lease has run out when it is told so. Everything is due as soon
as it is pending.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from fibflow.lifecycle import (
    TARGET,
    TRANSITIONS,
    Facts,
    Next,
    Transition,
    after_failure,
    after_interruption,
    after_release,
    ended,
)
from fibflow.model import Outcome, Status

KNOWN = ("status", "stage", "attempt", "failures", "interruptions", "waits_for", "worker", "open")
FINAL = {Status.COMPLETED, Status.PERMANENTLY_FAILED, Status.CANCELLED}


@dataclass
class Task:
    """`waits_for`: the generation of children that it spawned last; `open`: how many of these are not final."""

    parent: int | None = None
    generation: int | None = None
    status: Status = Status.PENDING
    stage: int = 0
    attempt: int = 0
    failures: int = 0
    interruptions: int = 0
    worker: int | None = None
    waits_for: int | None = None
    open: int = 0
    overdue: bool = False

    def start_over(self) -> None:
        self.stage, self.waits_for, self.open = 0, None, 0

    def go_on(self) -> None:
        self.status, self.stage = Status.PENDING, self.stage + 1


class End(NamedTuple):
    """How an attempt ended, whose it was, and whether that worker ended it itself."""

    outcome: Outcome
    worker: int
    by_itself: bool


@dataclass
class Life:
    tasks: dict[int, Task] = field(default_factory=dict)
    active: dict[int, str] = field(default_factory=dict)
    ends: dict[tuple[int, int], End] = field(default_factory=dict)
    refused: Counter[tuple[int, int]] = field(default_factory=Counter)

    # ── what is so ────────────────────────────────────────────────────────────────────────────────────────────────

    def of(self, *statuses: Status) -> list[int]:
        return [id for id, task in self.tasks.items() if task.status in statuses]

    def rows(self) -> dict[int, tuple[object, ...]]:
        """What the database is to know of every task, in the order of `KNOWN`."""
        return {id: tuple(getattr(task, name) for name in KNOWN) for id, task in self.tasks.items()}

    def allows(self, verb: Transition, id: int) -> bool:
        """Whether people may do this to a task now."""
        task = self.tasks[id]
        return (task.status, TARGET[verb]) in TRANSITIONS[verb] and not (verb is Transition.RESUME and task.open)

    def owned(self) -> list[int]:
        """What runs under a worker that may write."""
        return [id for id in self.of(Status.RUNNING) if self.tasks[id].worker in self.active]

    def running(self, id: int) -> tuple[int, int, int]:
        """A task that runs, its fence and its worker."""
        task = self.tasks[id]
        assert task.worker is not None
        return id, task.attempt, task.worker

    def late(self) -> list[tuple[int, int, int]]:
        """The task, the fence and the worker of every attempt that is not its worker's any more."""
        lost = [self.running(id) for id in self.of(Status.RUNNING) if id not in self.owned()]
        return [(*key, end.worker) for key, end in self.ends.items()] + lost

    def was_so(self, id: int, fence: int, worker: int, outcome: Outcome) -> bool:
        """Whether an end was stored before: the answer to its worker may have been lost."""
        return self.ends.get((id, fence)) == End(outcome, worker, True)

    # ── what workers do ───────────────────────────────────────────────────────────────────────────────────────────

    def register(self, worker: int, pod: str, recovers: bool) -> None:
        """Whoever works in this pod is superseded."""
        self.lose([old for old, place in self.active.items() if place == pod], recovers)
        self.active[worker] = pod

    def lose(self, workers: Iterable[int], recovers: bool) -> None:
        """These are not active any more."""
        for worker in workers:
            del self.active[worker]
        if recovers:
            self.recover()

    def recover(self) -> None:
        """What workers run that are not active is pending again, until its budget is used up."""
        for id in [id for id in self.of(Status.RUNNING) if self.tasks[id].worker not in self.active]:
            self.end(id, Outcome.INTERRUPTED, after_interruption(self.facts(id)), by_itself=False)

    def claim(self, id: int, worker: int) -> None:
        task = self.tasks[id]
        task.status, task.worker, task.attempt, task.overdue = Status.RUNNING, worker, task.attempt + 1, False

    def facts(self, id: int) -> Facts:
        return Facts(self.tasks[id].failures, self.tasks[id].interruptions)

    def next(self, id: int, outcome: Outcome) -> Next:
        """What a worker makes of an outcome."""
        facts = self.facts(id)
        if outcome in (Outcome.FAILED, Outcome.TIMEOUT):
            return after_failure(facts)._replace(delay=0.0)
        return after_release(facts) if outcome is Outcome.INTERRUPTED else ended(facts, outcome)

    def end(self, id: int, outcome: Outcome, following: Next, by_itself: bool = True) -> None:
        task = self.tasks[id]
        assert task.worker is not None
        self.ends[id, task.attempt] = End(outcome, task.worker, by_itself)
        task.worker = None
        task.status, task.failures, task.interruptions = following.status, following.failures, following.interruptions
        if following.restart:
            task.start_over()
        self.count_off(id)

    def spawn(self, id: int, children: list[int]) -> None:
        """The attempt waits for children of its own generation, which is its fence."""
        self.end(id, Outcome.SUSPENDED, ended(self.facts(id), Outcome.SUSPENDED))
        parent = self.tasks[id]
        parent.waits_for, parent.open = parent.attempt, len(children)
        self.tasks |= {child: Task(id, parent.attempt) for child in children}

    def count_off(self, id: int) -> None:
        """A child that is final is counted off; the last one sends its parent on."""
        parent = self.parent(id)
        if parent is not None and self.tasks[id].status in FINAL:
            parent.open -= 1
            if not parent.open:
                parent.go_on()

    def parent(self, id: int) -> Task | None:
        """Who waits for this task, if somebody does."""
        child = self.tasks[id]
        parent = self.tasks.get(child.parent or 0)
        return parent if parent is not None and parent.open and parent.waits_for == child.generation else None

    # ── what people do ────────────────────────────────────────────────────────────────────────────────────────────

    def steer(self, verb: Transition, id: int) -> None:
        task, target = self.tasks[id], TARGET[verb]
        if task.worker is not None:
            outcome = Outcome.CANCELLED if verb is Transition.CANCEL else Outcome.INTERRUPTED
            self.end(id, outcome, Next(target, task.failures, task.interruptions), by_itself=False)
            return
        if verb is Transition.REDRIVE or (task.status is Status.PAUSED and verb is Transition.RESUME):
            task.failures = task.interruptions = 0
            task.start_over()
        if verb is Transition.REDRIVE and (parent := self.parent(id)) is not None:
            parent.open += 1
        if verb is Transition.CANCEL:
            task.open = 0
        if verb is Transition.RESUME and task.status is Status.SUSPENDED:
            task.go_on()
        task.status = target
        self.count_off(id)
