"""Attempts that were taken away from their worker, by each cause, and what others did with the tasks meanwhile.

A scene has an owner, who claims a few tasks, and another worker beside it. A cause then ends the owner's attempts without
asking it. What the owner still tries to write is the story of writes.py.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from faults.states import states
from fibflow.client import Client
from fibflow.lifecycle import Facts, after_failure, ended
from fibflow.model import FINAL, NewTask, Options, Outcome
from fibflow.store import claim, leases, record, recovery, settle
from fibflow.store.database import Database
from fibflow.store.ending import Ending
from fibflow.store.tasktypes import Declaration, declare_types
from fix_database import move_clock

TYPE = "work"
LEASE = 3600.0
SHORT_LEASE = 30.0
TIMEOUT = 60.0
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as its worker knows it."""

    task_id: int
    fence: int
    worker_id: int


@dataclass(slots=True)
class Scene:
    """Two workers and some tasks. `late`: the owner's attempts that will be taken away; `company`: one that will not.

    The company is the owner's for as long as it is `company_kept`: the first batch with it ends it.
    """

    database: Database
    random: Random
    type_id: int
    owner: int = 0
    other: int = 0
    pod: str = ""
    late: list[Attempt] = field(default_factory=list)
    company: list[Attempt] = field(default_factory=list)
    company_kept: bool = True

    @property
    def client(self) -> Client:
        return Client(self.database)

    def register(self, pod: str, lease: float = LEASE, recover: bool = True) -> int:
        return self.database.call(leases.register, pod_id=pod, host="host", pid=1, slots=100, lease=lease, recover=recover)

    def claim(self, worker: int) -> list[Attempt]:
        """All that is due, for this worker."""
        rows = self.database.call(claim.claim, worker, [claim.Lane(self.type_id, 100)], 100)
        return [Attempt(row.id, row.attempt, worker) for row in rows]

    def settle(self, attempt: Attempt, outcome: Outcome = Outcome.COMPLETED) -> None:
        """End a live attempt, as its owner may."""
        key = (attempt.task_id, attempt.fence, attempt.worker_id)
        after = ended(Facts(), outcome) if outcome in ENDED else after_failure(Facts())
        reason = "approval" if outcome is Outcome.SUSPENDED else None
        ending = Ending(*key, outcome, after, suspend_reason=reason)
        must(self.database.call(settle.settle, attempt.worker_id, [ending]) == [], "a live attempt could not be settled")

    def spawn(self, attempt: Attempt, children: int) -> None:
        """End a live attempt as suspended until its children are final."""
        key = (attempt.task_id, attempt.fence, attempt.worker_id)
        after = ended(Facts(), Outcome.SUSPENDED)
        ending = Ending(*key, Outcome.SUSPENDED, after, context=b"state", children=children)
        refused = self.database.call(record.spawn, attempt.worker_id, ending, [NewTask(TYPE)] * children)
        must(refused == [], "a live attempt could not spawn")

    def statuses(self, attempts: Sequence[Attempt]) -> list[str]:
        """What has become of the tasks that are still there: a final status, or the state of one that is not final."""
        return [state for _, state in self.database.call(states, [attempt.task_id for attempt in attempts])]

    def close(self) -> None:
        """Leave nothing behind that a later scene could claim, or sweep."""
        for task_id, state in self.database.call(states, [one.task_id for one in (*self.late, *self.company)], True):
            if state not in FINAL:
                self.client.cancel(task_id)
        for worker in (self.owner, self.other):
            self.database.call(leases.stop, worker)


ENDED = {Outcome.COMPLETED, Outcome.SUSPENDED, Outcome.CANCELLED}


def must(holds: bool, otherwise: str) -> None:
    """A scene that cannot be set up is an error of its own, not a fault that was found."""
    if not holds:
        raise RuntimeError(otherwise)


# ── what is claimed ───────────────────────────────────────────────────────────────────────────────────────────────


def begin(database: Database, random: Random, cause: str) -> Scene:
    """A scene in which the owner runs some tasks, which the cause then takes away."""
    scene = Scene(database, random, database.call(declare_types, [Declaration(TYPE)])[TYPE])
    scene.pod = f"owner-{next(_numbers)}"
    scene.owner = scene.register(scene.pod, SHORT_LEASE if cause == "reaped" else LEASE)
    scene.other = scene.register(f"other-{next(_numbers)}")
    random.choice(SHAPES)(scene)
    scene.late = scene.claim(scene.owner)
    must(bool(scene.late), "nothing was claimed")
    if cause not in ENDS_THE_WORKER:
        scene.client.enqueue(TYPE, timeout=LEASE * 10)
        scene.company = scene.claim(scene.owner)
    CAUSES[cause](scene)
    return scene


def _single_tasks(scene: Scene) -> None:
    options = Options(timeout=TIMEOUT, max_attempts=scene.random.choice([1, 3]))
    scene.client.enqueue_many([NewTask(TYPE, {"n": 1}, options=options)] * scene.random.randint(1, 4))


def _children_of_a_waiting_parent(scene: Scene) -> None:
    scene.client.enqueue(TYPE, timeout=TIMEOUT)
    (parent,) = scene.claim(scene.other)
    scene.spawn(parent, scene.random.randint(1, 4))


def _parents_whose_children_are_final(scene: Scene) -> None:
    scene.client.enqueue(TYPE, timeout=TIMEOUT)
    (parent,) = scene.claim(scene.other)
    scene.spawn(parent, 2)
    for child in scene.claim(scene.other):
        scene.settle(child)


SHAPES: Sequence[Callable[[Scene], None]] = [
    _single_tasks,
    _children_of_a_waiting_parent,
    _parents_whose_children_are_final,
]


# ── how it is taken away ──────────────────────────────────────────────────────────────────────────────────────────


def _reap(scene: Scene) -> None:
    move_clock(scene.database, SHORT_LEASE + 1)
    must(scene.owner in scene.database.call(leases.reap, scene.other), "the owner was not reaped")
    _go_on(scene)


def _supersede(scene: Scene) -> None:
    """With recovery switched off, the attempts stay where they are, running under an owner that may not write."""
    scene.database.call(leases.stop, scene.other)
    scene.other = scene.register(scene.pod, recover=scene.random.random() < 0.7)
    _go_on(scene)


def _pause(scene: Scene) -> None:
    for attempt in scene.late:
        scene.client.pause(attempt.task_id)
    if scene.random.random() < 0.7:
        for attempt in scene.late:
            scene.client.resume(attempt.task_id)
        _go_on(scene)


def _cancel(scene: Scene) -> None:
    for attempt in scene.late:
        scene.client.cancel(attempt.task_id, "no longer wanted")
    _go_on(scene)


def _time_out(scene: Scene) -> None:
    move_clock(scene.database, TIMEOUT + 3)
    sweeper = scene.random.choice([scene.owner, scene.other])
    must(scene.database.call(recovery.time_out_overdue, sweeper) == len(scene.late), "not every attempt was timed out")
    _go_on(scene)


def _prune(scene: Scene) -> None:
    _take_back(scene)
    _finish_all(scene)
    move_clock(scene.database, 2)
    while scene.client.prune(age=1).more:
        pass
    must(scene.statuses(scene.late) == [], "a task was not pruned")


def _redrive(scene: Scene) -> None:
    if scene.random.random() < 0.5:
        _take_back(scene)
        _finish_all(scene)
    for attempt in scene.late:
        if scene.statuses([attempt]) == ["running"]:
            scene.client.cancel(attempt.task_id)
        scene.client.redrive(attempt.task_id)
    again = {attempt.task_id for attempt in scene.claim(scene.owner)}
    must(again >= {attempt.task_id for attempt in scene.late}, "the owner did not claim again what was redriven")


CAUSES: dict[str, Callable[[Scene], None]] = {
    "reaped": _reap,
    "superseded": _supersede,
    "paused": _pause,
    "cancelled": _cancel,
    "timed out": _time_out,
    "pruned": _prune,
    "redriven": _redrive,
}
ENDS_THE_WORKER = {"reaped", "superseded"}
"""The causes after which the owner may not write anything at all."""


def _take_back(scene: Scene) -> None:
    for attempt in scene.late:
        scene.client.pause(attempt.task_id)
        scene.client.resume(attempt.task_id)


def _finish_all(scene: Scene) -> None:
    """The other worker runs whatever is due, until nothing is: children, then their parents."""
    while live := scene.claim(scene.other):
        for attempt in live:
            scene.settle(attempt)


def _go_on(scene: Scene) -> None:
    """What is due again is left, or claimed by somebody, the owner included, who may also end it."""
    claimer = scene.random.choice([None, scene.owner, scene.other])
    live = [] if claimer is None else scene.claim(claimer)
    for attempt in live:
        _maybe_end(scene, attempt)


def _maybe_end(scene: Scene, attempt: Attempt) -> None:
    how: Any = scene.random.choice([None, None, Outcome.COMPLETED, Outcome.FAILED, Outcome.SUSPENDED, "spawn"])
    if how == "spawn":
        scene.spawn(attempt, 2)
    elif how is not None:
        scene.settle(attempt, how)
