"""Any order of verbs, with a crash between any two statements, leaves what the model says (life.py), on both databases.

After every step all rows are compared: nothing is lost, completed twice, counted off twice, or changed by a stale write; a
verb that crashed left nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from fibflow import plain_verbs
from fibflow.errors import IllegalTransition
from fibflow.lifecycle import Transition
from fibflow.model import NewTask, Options, Outcome, Status
from fibflow.store import claim, control, leases, record, recovery, settle, tables
from fibflow.store.database import Database, Session, read
from fibflow.store.ending import Ending
from fibflow.store.notes import RUNS, Note
from fibflow.store.tasktypes import Declaration, declare_types
from fix_database import move_clock
from semantics.life import Life, Task

LEASE, TIMEOUT, LATER = 30.0, 20.0, 60.0
FEW, MANY = 3, 9
"""Tasks that are enqueued at the most, and with children: so few that much happens to each."""
PODS = ("pod-0", "pod-1")
STEERING = {
    Transition.PAUSE: control.pause,
    Transition.RESUME: control.resume,
    Transition.CANCEL: control.cancel,
    Transition.REDRIVE: control.redrive,
}
ENDS = (Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMEOUT, Outcome.INTERRUPTED, Outcome.SUSPENDED)
ERRORS = {Outcome.FAILED: "it failed", Outcome.TIMEOUT: "timed out"}

CRASH = st.sampled_from([None] * 24 + list(range(8)))
"""How many statements of a verb are still sent; at none left, the commit is not. Most verbs do not crash."""
WHICH = st.integers(0, 1 << 16)
"""Which of those that there are."""
RECOVERS = st.booleans()
"""Whether whoever ends workers takes back what they ran; a sweep does, later."""


class Crash(Exception):
    """The process is gone."""


CRASHED = object()


@contextmanager
def crashing(database: Database, statements: int | None) -> Iterator[None]:
    """Whoever works in there dies before it sends so many statements, or its commit."""
    left, fetch = [statements], Session.fetch

    def die(connection: sa.Connection, *_: Any) -> None:
        if left[0] == 0:
            connection.invalidate()
            raise Crash
        left[0] = None if left[0] is None else left[0] - 1

    def fetch_or_die(session: Session, *given: Any) -> Any:
        die(session.connection)
        return fetch(session, *given)

    moments = {(database.engine, "before_cursor_execute"), (database.engine, "commit")}
    moments.add((database._autocommit.engine, "before_cursor_execute"))
    for engine, moment in moments:
        sa.event.listen(engine, moment, die)
    try:
        with patch.object(Session, "fetch", fetch_or_die):
            yield
    finally:
        for engine, moment in moments:
            sa.event.remove(engine, moment, die)


class Lives(RuleBasedStateMachine):
    """Two pods, and whatever happens to tasks in them."""

    database: ClassVar[Database]

    @initialize()
    def begin(self) -> None:
        with self.database.engine.begin() as connection:
            for table in set(tables.metadata.tables.values()) - {tables.schema_version}:
                connection.execute(sa.delete(table))
        self.life = Life()
        options = Options(timeout=TIMEOUT, backoff=0)
        self.type_id = self.database.call(declare_types, [Declaration("work", options)])["work"]
        for pod in PODS:
            self.register(pod, True, None)
        for _ in range(FEW):
            self.enqueue(None)

    def act(self, crash: int | None, verb: Any, *args: Any, **kwargs: Any) -> Any:
        """Do it in the database; what it answered, or that it crashed."""
        try:
            with crashing(self.database, crash):
                return self.database.call(verb, *args, **kwargs)
        except Crash:
            return CRASHED

    def ending(self, id: int, fence: int, worker: int, outcome: Outcome) -> Ending:
        following = self.life.next(id, outcome)
        waits = "a person" if outcome is Outcome.SUSPENDED else None
        return Ending(id, fence, worker, outcome, following, error=ERRORS.get(outcome), suspend_reason=waits)

    # ── workers ───────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.life.tasks) < FEW)
    @rule(crash=CRASH)
    def enqueue(self, crash: int | None) -> None:
        id = self.act(crash, plain_verbs.enqueue, "work")
        if id is not CRASHED:
            self.life.tasks[id] = Task()

    def register(self, pod: str, recover: bool, crash: int | None) -> None:
        place = {"pod_id": pod, "host": "host", "pid": 1, "slots": 10, "lease": LEASE}
        worker = self.act(crash, leases.register, **place, recover=recover)
        if worker is not CRASHED:
            self.life.register(worker, pod, recover)

    @precondition(lambda self: self.life.active)
    @rule(which=WHICH, limit=st.integers(1, 3), crash=CRASH)
    def claim(self, which: int, limit: int, crash: int | None) -> None:
        worker = pick(self.life.active, which)
        claimed = self.act(crash, claim.claim, worker, [claim.Lane(self.type_id, limit)], limit)
        if claimed is not CRASHED:
            assert len(claimed) == min(limit, len(self.life.of(Status.PENDING)))
            for row in claimed:
                self.life.claim(row.id, worker)
                assert row.attempt == self.life.tasks[row.id].attempt

    @precondition(lambda self: self.life.owned())
    @rule(which=WHICH, outcome=st.sampled_from(ENDS), crash=CRASH)
    def settle(self, which: int, outcome: Outcome, crash: int | None) -> None:
        id = pick(self.life.owned(), which)
        ending = self.ending(*self.life.running(id), outcome)
        answer = self.act(crash, settle.settle, ending.worker_id, [ending])
        if answer is not CRASHED:
            assert answer == []
            self.life.end(id, outcome, ending.next)

    @precondition(lambda self: self.life.owned() and len(self.life.tasks) < MANY)
    @rule(which=WHICH, children=st.integers(1, 3), crash=CRASH)
    def spawn(self, which: int, children: int, crash: int | None) -> None:
        id = pick(self.life.owned(), which)
        answer = self.act(crash, record.spawn, *self.spawning(*self.life.running(id), children))
        if answer is not CRASHED:
            assert answer == []
            self.life.spawn(id, [child for child in self.stored() if child not in self.life.tasks])

    def spawning(self, id: int, fence: int, worker: int, children: int) -> tuple[Any, ...]:
        after = self.life.next(id, Outcome.SUSPENDED)
        ending = Ending(id, fence, worker, Outcome.SUSPENDED, after, children=children)
        return worker, ending, [NewTask("work")] * children

    def all_others_are_silent_and_reaped(self, which: int, recover: bool, crash: int | None) -> None:
        survivor = pick(self.life.active, which)
        move_clock(self.database, LATER)
        for id in self.life.of(Status.RUNNING):
            self.life.tasks[id].overdue = True
        self.database.call(leases.renew, survivor)
        others = [worker for worker in self.life.active if worker != survivor]
        if self.act(crash, leases.reap, survivor, recover=recover) is CRASHED:
            for worker in others:
                self.database.call(leases.renew, worker)
        else:
            self.life.lose(others, recover and bool(others))

    def what_nobody_active_runs_is_taken_back(self, which: int, crash: int | None) -> None:
        if self.act(crash, recovery.recover, pick(self.life.active, which)) is not CRASHED:
            self.life.recover()

    def what_is_overdue_times_out(self, which: int, crash: int | None) -> None:
        late = [id for id in self.life.of(Status.RUNNING) if self.life.tasks[id].overdue]
        count = self.act(crash, recovery.time_out_overdue, pick(self.life.active, which))
        if count is not CRASHED:
            assert count == len(late)
            for id in late:
                self.life.end(id, Outcome.TIMEOUT, self.life.next(id, Outcome.TIMEOUT), by_itself=False)

    @rule(which=WHICH, recover=RECOVERS, crash=CRASH)
    def workers_come_and_go(self, which: int, recover: bool, crash: int | None) -> None:
        if which % 4 == 0 or not self.life.active:
            self.register(pick(PODS, which // 4), recover, crash)
        elif which % 4 == 1:
            self.all_others_are_silent_and_reaped(which // 4, recover, crash)
        elif which % 4 == 2:
            self.what_nobody_active_runs_is_taken_back(which // 4, crash)
        else:
            self.what_is_overdue_times_out(which // 4, crash)

    # ── the dead, and people ──────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.life.late())
    @rule(which=WHICH, outcome=st.sampled_from(ENDS), children=st.integers(-1, 2), crash=CRASH)
    def what_is_late_is_refused(self, which: int, outcome: Outcome, children: int, crash: int | None) -> None:
        id, fence, worker = pick(self.life.late(), which)
        if children < 0:
            self.a_late_report_is_refused(id, fence, worker, crash)
            return
        if children:
            outcome = Outcome.SUSPENDED
            answer = self.act(crash, record.spawn, *self.spawning(id, fence, worker, children))
        else:
            answer = self.act(crash, settle.settle, worker, [self.ending(id, fence, worker, outcome)])
        if answer is not CRASHED:
            told = [] if self.life.was_so(id, fence, worker, outcome) else [(id, fence)]
            assert [(lost.task_id, lost.fence) for lost in answer] == told
            self.life.refused.update(told)

    def a_late_report_is_refused(self, id: int, fence: int, worker: int, crash: int | None) -> None:
        note = Note("task_progress", RUNS, message="still here")
        answer = self.act(crash, record.note_running, worker, id, fence, note, {"progress_text": "still here"})
        if answer is not CRASHED:
            assert (answer.task_id, answer.fence) == (id, fence)
            self.life.refused[id, fence] += 1

    @precondition(lambda self: self.life.tasks)
    @rule(which=WHICH, verb=st.sampled_from(list(STEERING)), fitting=st.booleans(), crash=CRASH)
    def steer(self, which: int, verb: Transition, fitting: bool, crash: int | None) -> None:
        fits = [id for id in self.life.tasks if self.life.allows(verb, id)]
        id = pick(fits if fits and fitting else list(self.life.tasks), which)
        try:
            answer = self.act(crash, STEERING[verb], id)
        except IllegalTransition:
            assert not self.life.allows(verb, id)
        else:
            if answer is not CRASHED:
                assert self.life.allows(verb, id)
                self.life.steer(verb, id)

    # ── what is compared ──────────────────────────────────────────────────────────────────────────────────────────

    def stored(self) -> dict[int, Any]:
        return self.database.call(_tasks)

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        assert self.stored() == self.life.rows()
        assert self.database.call(_ends) == {key: (str(end.outcome), end.worker) for key, end in self.life.ends.items()}
        assert self.database.call(_refusals) == dict(self.life.refused)
        assert self.database.call(_active) == set(self.life.active)


def pick(some: Any, which: int) -> Any:
    return list(some)[which % len(some)]


@read
def _tasks(session: Session) -> dict[int, Any]:
    """What the model knows of every task, hot or final."""
    hot, final = tables.task.c, tables.task_final.c
    of = ("stage", "attempt", "failures", "interruptions", "spawned")
    rows = session.connection.execute(sa.select(hot.id, hot.state, *(hot[n] for n in of), hot.worker_id, hot.open_children))
    found = {row[0]: (Status.PENDING if row[1] == "ready" else Status(row[1]), *row[2:]) for row in rows}
    rows = session.connection.execute(sa.select(final.id, final.status, *(final[n] for n in of)))
    ended = {row[0]: (Status(row[1]), *row[2:], None, 0) for row in rows}
    assert not found.keys() & ended.keys()
    return found | ended


@read
def _ends(session: Session) -> dict[tuple[int, int], tuple[str, int]]:
    of = tables.attempt.c
    rows = session.connection.execute(sa.select(of.task_id, of.attempt, of.outcome, of.worker_id))
    return {(row.task_id, row.attempt): (row.outcome, row.worker_id) for row in rows}


@read
def _refusals(session: Session) -> dict[tuple[int, int], int]:
    of = tables.stale_write.c
    rows = session.connection.execute(sa.select(of.task_id, of.fence, sa.func.sum(of.count)).group_by(of.task_id, of.fence))
    return {(task_id, fence): int(count) for task_id, fence, count in rows}


@read
def _active(session: Session) -> set[int]:
    of = tables.worker.c
    return set(session.connection.execute(sa.select(of.id).where(of.status == "active")).scalars())


EXAMPLES = {"sqlite": 100, "postgresql": 20}
TIMES = 20 if os.environ.get("FIBFLOW_LIVES") == "many" else 1


def test_any_order_of_verbs_and_crashes_leaves_what_the_model_says(database, monkeypatch):
    monkeypatch.setattr(recovery, "random", SimpleNamespace(random=lambda: 0.0))  # the model knows nothing of time
    machine = type("LivesHere", (Lives,), {"database": database})
    kind = "postgresql" if database.postgresql else "sqlite"
    how = settings(
        max_examples=EXAMPLES[kind] * TIMES, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=how)
