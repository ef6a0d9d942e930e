"""The heart, on both databases: claims, endings, fences, take-overs, workflows."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from fibflow.client import Client
from fibflow.errors import IllegalTransition, LeaseLost, UnknownTaskType, WorkerLost
from fibflow.lifecycle import Facts, after_failure, after_release, ended
from fibflow.model import NewTask, Options, Outcome, Status
from fibflow.store import claim, control, leases, polling, record, recovery, settle, stale
from fibflow.store.database import Database, Session, read
from fibflow.store.ending import Ending
from fibflow.store.tables import task
from fibflow.store.tables import worker as worker_table
from fibflow.store.tasktypes import Declaration, declare_types
from fix_database import move_clock, wait_for_a_lock


@dataclass
class Engine:
    """A database with one task type, and workers that a test moves by hand."""

    database: Database
    client: Client = field(init=False)

    def __post_init__(self):
        self.client = Client(self.database)
        self.type_id = self.database.call(declare_types, [Declaration("work")])["work"]

    def call(self, verb, *args, **kwargs):
        return self.database.call(verb, *args, **kwargs)

    def worker(self, pod="pod-0", lease=30.0):
        return self.call(leases.register, pod_id=pod, host="host", pid=1, slots=10, lease=lease)

    def claim(self, worker, limit=10):
        return self.call(claim.claim, worker, [claim.Lane(self.type_id, limit)], limit)

    def settle(self, worker, row, outcome=Outcome.COMPLETED, next_=None, **parts):
        after = next_ or ended(Facts(), outcome)
        return self.call(settle.settle, worker, [Ending(row.id, row.attempt, worker, outcome, after, **parts)])

    def running(self, worker):
        self.client.enqueue("work", {"n": 1})
        return self.claim(worker)[0]

    def status(self, task_id):
        return self.client.get(task_id).status

    def stale(self):
        return self.call(read(stale.stale_writes))


@pytest.fixture
def engine(database):
    return Engine(database)


def test_a_task_is_enqueued_claimed_and_completed(engine):
    worker = engine.worker()
    row = engine.running(worker)
    assert engine.status(row.id) is Status.RUNNING
    assert engine.settle(worker, row, result='{"ok":true}') == []
    task = engine.client.get(row.id)
    assert (task.status, task.result, task.attempt) == (Status.COMPLETED, {"ok": True}, 1)
    assert [str(event.type) for event in engine.client.events(row.id).items] == [
        "task_created",
        "task_claimed",
        "task_started",
        "task_completed",
    ]


def test_an_unknown_type_stores_nothing(engine):
    with pytest.raises(UnknownTaskType, match="'nobody' is not a task type"):
        engine.client.enqueue_many([NewTask("work"), NewTask("nobody")])
    assert engine.client.tasks().total == 0


def test_claims_follow_priority_then_due_time(engine):
    low, high = (engine.client.enqueue("work", priority=priority) for priority in (0, 5))
    first, second = engine.claim(engine.worker())
    assert (first.id, second.id) == (high, low)


def test_a_task_is_claimed_once(engine):
    one, two = engine.worker("pod-1"), engine.worker("pod-2")
    engine.running(one)
    assert engine.claim(two) == []


def test_a_scheduled_task_waits_until_it_is_due_and_promoted(engine):
    task_id = engine.client.enqueue("work", delay=60)
    worker = engine.worker(lease=600)
    assert engine.call(polling.promote) == 0
    assert engine.claim(worker) == []
    move_clock(engine.database, 61)
    assert engine.call(polling.promote) == 1
    assert [row.id for row in engine.claim(worker)] == [task_id]


def test_a_paused_type_is_not_claimed(engine):
    worker = engine.worker()
    engine.client.enqueue("work")
    engine.client.pause_type("work")
    assert engine.claim(worker) == []
    engine.client.resume_type("work")
    assert len(engine.claim(worker)) == 1


def test_a_failure_is_retried_until_the_attempts_are_used_up(engine):
    worker = engine.worker()
    row = engine.running(worker)
    for failures in range(3):
        after = after_failure(Facts(failures=failures))
        assert engine.settle(worker, row, Outcome.FAILED, after, error=f"failure {failures}") == []
        rows = engine.claim(worker)
        row = rows[0] if rows else row
    task = engine.client.get(row.id)
    assert (task.status, task.failures, task.attempt) == (Status.PERMANENTLY_FAILED, 3, 3)
    assert task.error == "failure 2"


def test_registering_again_supersedes_and_takes_the_work_back_at_once(engine):
    old = engine.worker()
    row = engine.running(old)
    new = engine.worker()
    task = engine.client.get(row.id)
    assert (task.status, task.failures, task.interruptions) == (Status.PENDING, 0, 1)
    event = next(e for e in engine.client.events(row.id).items if e.type == "task_recovered")
    assert (event.metadata["lost_worker"], event.metadata["recovered_by"]) == (old, new)
    assert event.metadata["cause"] == "superseded"
    with pytest.raises(WorkerLost):
        engine.call(leases.renew, old)


def test_a_lease_that_ran_out_is_reaped_once(engine):
    old, other = engine.worker("pod-1", lease=10), engine.worker("pod-2", lease=600)
    row = engine.running(old)
    assert engine.call(leases.reap, other) == []
    move_clock(engine.database, 11)
    assert engine.call(leases.reap, other) == [old]
    assert engine.call(leases.reap, other) == []
    assert engine.status(row.id) is Status.PENDING


def test_a_lease_that_ran_out_may_be_renewed_until_somebody_reaps_it(engine):
    worker = engine.worker(lease=10)
    row = engine.running(worker)
    move_clock(engine.database, 11)
    assert engine.call(leases.renew, worker) is False
    assert engine.settle(worker, row) == []


def test_a_worker_does_not_reap_itself_and_leaves_to_the_living_what_they_run(engine):
    worker, other = engine.worker("pod-1", lease=10), engine.worker("pod-2", lease=600)
    row, others = engine.running(worker), engine.running(other)
    move_clock(engine.database, 11)
    assert engine.call(leases.reap, worker) == []
    assert engine.call(recovery.recover, worker) == 0
    assert [engine.status(each.id) for each in (row, others)] == [Status.RUNNING] * 2


def test_an_attempt_past_its_deadline_is_settled_by_anybody(engine):
    worker, other = engine.worker("pod-1", lease=600), engine.worker("pod-2", lease=600)
    row = engine.running(worker)
    move_clock(engine.database, 61)
    assert engine.call(recovery.time_out_overdue, other) == 0
    move_clock(engine.database, 63)
    assert engine.call(recovery.time_out_overdue, other) == 1
    assert engine.client.get(row.id).last_outcome is Outcome.TIMEOUT


CAUSES = {
    "superseded": lambda engine, row: engine.worker(),
    "paused": lambda engine, row: engine.client.pause(row.id),
    "cancelled": lambda engine, row: engine.client.cancel(row.id, "no longer wanted"),
    "claimed again": lambda engine, row: (
        engine.client.pause(row.id),
        engine.client.resume(row.id),
        engine.claim(row.worker),
    ),
    "reaped": lambda engine, row: lapse(engine, LEASE + 1, leases.reap),
    "timed out": lambda engine, row: lapse(engine, 63, recovery.time_out_overdue),
}
LEASE = 600


def lapse(engine, seconds, sweep):
    """So much time passes; then another worker sweeps."""
    other = engine.worker("pod-1", lease=2 * LEASE)
    move_clock(engine.database, seconds)
    assert engine.call(sweep, other)


def _late(engine, worker, row):
    """Every write that an attempt can make."""
    ending = Ending(row.id, row.attempt, worker, Outcome.SUSPENDED, ended(Facts(), Outcome.SUSPENDED), children=1)
    key = (worker, row.id, row.attempt)
    note, snapshot = record.progress_note("late", None, 10, None, None)
    yield lambda: engine.settle(worker, row, result="1")
    yield lambda: engine.settle(worker, row, Outcome.FAILED, after_failure(Facts()), error="late")
    yield lambda: engine.settle(worker, row, Outcome.TIMEOUT, after_failure(Facts()), error="late")
    yield lambda: engine.settle(worker, row, Outcome.INTERRUPTED, after_release(Facts()))
    yield lambda: engine.settle(worker, row, Outcome.SUSPENDED, suspend_reason="late")
    yield lambda: engine.call(record.spawn, worker, ending, [NewTask("work")])
    yield lambda: [engine.call(record.note_running, *key, note, snapshot)]
    yield lambda: [engine.call(record.note_running, *key, record.checkpoint_note("late", None, None), {})]


@dataclass(frozen=True)
class Claimed:
    """An attempt, and the worker that claimed it."""

    id: int
    attempt: int
    worker: int


@pytest.mark.parametrize("cause", CAUSES)
def test_every_late_write_is_refused_recorded_and_leaves_nothing(engine, cause):
    worker = engine.worker(lease=LEASE)
    row = engine.running(worker)
    CAUSES[cause](engine, Claimed(row.id, row.attempt, worker))
    before, attempts = engine.client.get(row.id), engine.client.attempts(row.id).total
    tried = 0
    for write in _late(engine, worker, row):
        (refusal,) = write()
        assert isinstance(refusal, LeaseLost)
        tried += 1
    assert engine.client.get(row.id) == before
    assert engine.client.tasks().total == 1
    assert engine.client.attempts(row.id).total == attempts
    assert engine.stale() == tried == 8
    kept = engine.client.events(row.id, types=["task_stale_write_rejected"]).items
    assert {event.metadata["verb"] for event in kept} == {
        "complete",
        "fail",
        "time_out",
        "interrupt",
        "suspend",
        "spawn",
        "progress",
        "checkpoint",
    }


def test_a_late_spawn_is_recorded_as_a_spawn(engine):
    worker = engine.worker()
    row = engine.running(worker)
    engine.client.pause(row.id)
    ending = Ending(row.id, row.attempt, worker, Outcome.SUSPENDED, ended(Facts(), Outcome.SUSPENDED), children=1)
    (refusal,) = engine.call(record.spawn, worker, ending, [NewTask("work")])
    assert refusal.verb == "spawn"


def test_a_settle_whose_answer_was_lost_is_no_stale_write(engine):
    worker = engine.worker()
    row = engine.running(worker)
    assert engine.settle(worker, row) == []
    assert engine.settle(worker, row) == []
    assert engine.stale() == 0
    assert engine.client.attempts(row.id).total == 1


def test_a_parent_goes_on_once_when_its_last_child_is_final(engine):
    worker = engine.worker()
    parent = engine.running(worker)
    after = ended(Facts(), Outcome.SUSPENDED)
    ending = Ending(parent.id, 1, worker, Outcome.SUSPENDED, after, context=b"state", children=2)
    assert engine.call(record.spawn, worker, ending, [NewTask("work", {"n": n}) for n in range(2)]) == []
    first, second = engine.claim(worker)
    engine.settle(worker, first, result="1")
    with pytest.raises(IllegalTransition, match=f"children {second.id} are open"):
        engine.client.resume(parent.id)
    engine.settle(worker, second, Outcome.FAILED, after_failure(Facts(), retryable=False), error="broken")
    (again,) = engine.claim(worker)
    assert (again.id, again.stage, again.context) == (parent.id, 1, b"state")
    assert [(child.status, child.result) for child in engine.client.children(parent.id)] == [
        (Status.COMPLETED, 1),
        (Status.PERMANENTLY_FAILED, None),
    ]
    resumed = engine.client.events(parent.id, types=["task_resumed"])
    assert resumed.total == 1


def test_children_inherit_and_bad_children_create_nothing(engine):
    worker = engine.worker()
    engine.client.enqueue("work", priority=7, timeout=9)
    (parent,) = engine.claim(worker)
    after = ended(Facts(), Outcome.SUSPENDED)
    ending = Ending(parent.id, 1, worker, Outcome.SUSPENDED, after, children=1)
    with pytest.raises(UnknownTaskType):
        engine.call(record.spawn, worker, ending, [NewTask("nobody")])
    assert engine.status(parent.id) is Status.RUNNING
    engine.call(record.spawn, worker, ending, [NewTask("work", options=Options(timeout=3))])
    (child,) = engine.client.children(parent.id)
    task = engine.client.get(child.id)
    assert (task.priority, task.timeout, task.parent_id, task.root_id) == (7, 3.0, parent.id, parent.id)


def test_a_suspended_task_waits_for_a_person(engine):
    worker = engine.worker()
    row = engine.running(worker)
    assert engine.settle(worker, row, Outcome.SUSPENDED, suspend_reason="awaiting_approval", context=b"x") == []
    waiting = engine.client.tasks(suspend_reason="awaiting_approval").items
    assert [task.id for task in waiting] == [row.id]
    engine.client.resume(row.id, "approved")
    (again,) = engine.claim(worker)
    assert (again.stage, again.context, again.attempt) == (1, b"x", 2)


def test_a_redriven_task_keeps_its_attempts(engine):
    worker = engine.worker()
    row = engine.running(worker)
    engine.settle(worker, row, Outcome.FAILED, after_failure(Facts(), retryable=False), error="broken")
    engine.client.redrive(row.id)
    (again,) = engine.claim(worker)
    assert (again.attempt, again.failures) == (2, 0)


def test_a_redriven_task_tells_no_progress_of_before(engine):
    worker = engine.worker()
    row = engine.running(worker)
    note, snapshot = record.progress_note("nearly there", "last", 99, None, None)
    engine.call(record.note_running, worker, row.id, row.attempt, note, snapshot)
    engine.settle(worker, row, result="1")
    engine.client.redrive(row.id)
    task = engine.client.get(row.id)
    assert (task.progress_text, task.progress_percent, task.current_stage_name) == (None, None, None)


def test_an_enqueue_that_fails_announces_nothing_and_keeps_no_other_from_it(engine):
    with pytest.raises(UnknownTaskType):
        engine.client.enqueue("other")
    assert engine.database.wakes.last == {}


def test_a_verb_that_the_status_forbids_names_both_statuses(engine):
    worker = engine.worker()
    row = engine.running(worker)
    engine.settle(worker, row, result="1")
    for verb in (control.pause, control.resume, control.cancel):
        with pytest.raises(IllegalTransition, match="completed does not become"):
            engine.call(verb, row.id)


def test_the_right_fence_in_the_hands_of_another_worker_is_refused(engine):
    owner, other = engine.worker("pod-1"), engine.worker("pod-2")
    row = engine.running(owner)
    assert {type(refusal) for write in _late(engine, other, row) for refusal in write()} == {LeaseLost}
    assert engine.stale() == 8
    assert (engine.status(row.id), engine.client.tasks().total) == (Status.RUNNING, 1)


def test_a_superseded_worker_may_not_write_even_while_nobody_takes_its_work_back(engine):
    old = engine.worker()
    row = engine.running(old)
    engine.call(leases.register, pod_id="pod-0", host="host", pid=2, slots=10, lease=30.0, recover=False)
    assert {type(refusal) for write in _late(engine, old, row) for refusal in write()} == {LeaseLost}
    assert engine.stale() == 8
    assert (engine.status(row.id), engine.client.tasks().total) == (Status.RUNNING, 1)


def test_a_superseded_process_waits_until_no_other_of_its_pod_is_active(engine):
    engine.worker()
    new = engine.worker()
    again = {"pod_id": "pod-0", "host": "host", "pid": 1, "slots": 1, "lease": 30.0, "supersede": False}
    with pytest.raises(WorkerLost, match="is active"):
        engine.call(leases.register, **again)
    assert engine.call(leases.renew, new) is False
    engine.call(leases.stop, new)
    assert engine.call(leases.register, **again) > new


def test_of_two_registrations_of_a_pod_at_once_the_later_one_supersedes(engine):
    if not engine.database.postgresql:
        pytest.skip("SQLite has one writer at a time")
    place: Any = {"pod_id": "pod-0", "host": "host", "pid": 1, "slots": 1, "lease": 30.0}
    with engine.database.engine.connect() as faster, ThreadPoolExecutor(1) as pool:
        first = leases.register(Session(faster), **place)
        second = pool.submit(engine.call, leases.register, **place)
        wait_for_a_lock(engine.database, "%INSERT INTO fibflow.worker%")
        faster.commit()
        assert second.result() > first
    rows = {row.id: str(row.status) for row in engine.client.workers()}
    assert rows == {first: "superseded", second.result(): "active"}


def test_a_claim_waits_for_nobody(engine):
    if not engine.database.postgresql:
        pytest.skip("SQLite has one writer at a time")
    first, second = (engine.client.enqueue("work") for _ in range(2))
    with engine.database.engine.connect() as holding:
        holding.execute(sa.select(task.c.id).where(task.c.id == first).with_for_update())
        assert [row.id for row in engine.claim(engine.worker())] == [second]


@pytest.mark.parametrize("end", [{"status": "reaped", "ended_at": 1}, {"draining": True}], ids=["gone", "drains"])
def test_a_claim_that_is_refused_locks_nothing(engine, end):
    """Else what is taken back from a worker, which hears of it, would be skipped by all others and wait for their polls."""
    if not engine.database.postgresql:
        pytest.skip("SQLite has one writer at a time")
    old, new = engine.worker("pod-0"), engine.worker("pod-1")
    with engine.database.engine.begin() as connection:
        connection.execute(sa.update(worker_table).where(worker_table.c.id == old).values(end))
    task_id = engine.client.enqueue("work")
    with engine.database.engine.connect() as refused:
        assert claim.claim(Session(refused), old, [claim.Lane(engine.type_id, 1)], 1) == []
        assert [row.id for row in engine.claim(new)] == [task_id]


def test_a_take_over_waits_for_a_claim_under_way_and_takes_back_what_it_took(engine):
    if not engine.database.postgresql:
        pytest.skip("SQLite has one writer at a time")
    old = engine.worker()
    task_id = engine.client.enqueue("work")
    with engine.database.engine.connect() as claiming, ThreadPoolExecutor(1) as pool:
        claim.claim(Session(claiming), old, [claim.Lane(engine.type_id, 1)], 1)
        new = pool.submit(engine.worker)
        wait_for_a_lock(engine.database, "%fibflow.worker%")
        claiming.commit()
        assert new.result() > old
    assert engine.status(task_id) is Status.PENDING


def parents(engine, worker, count=2):
    """Suspended parents with two running children each: the parents' ids, and each one's children."""
    found = []
    for _ in range(count):
        parent = engine.running(worker)
        ending = Ending(parent.id, 1, worker, Outcome.SUSPENDED, ended(Facts(), Outcome.SUSPENDED), children=2)
        assert engine.call(record.spawn, worker, ending, [NewTask("work"), NewTask("work")]) == []
        found.append((parent.id, engine.claim(worker)))
    return found


@pytest.mark.parametrize("held", ["the other parent", "the task that fails"])
def test_a_batch_that_waits_for_a_row_holds_no_parent_below_it(engine, held):
    """Else two batches, each with children of both parents, would wait for one another."""
    if not engine.database.postgresql:
        pytest.skip("SQLite has one writer at a time")
    worker = engine.worker()
    (low, (completes, _)), (high, (fails, _)) = parents(engine, worker)
    broken = after_failure(Facts(), retryable=False)
    batch = [
        Ending(completes.id, 1, worker, Outcome.COMPLETED, ended(Facts(), Outcome.COMPLETED), result="1"),
        Ending(fails.id, 1, worker, Outcome.FAILED, broken, error="broken"),
    ]
    row = sa.select(task.c.id).where(task.c.id == (high if held == "the other parent" else fails.id)).with_for_update()
    with engine.database.engine.connect() as holding, ThreadPoolExecutor(1) as pool:
        holding.execute(row)
        settling = pool.submit(engine.call, settle.settle, worker, batch)
        wait_for_a_lock(engine.database, "%fibflow.task%")
        below = sa.select(task.c.id).where(task.c.id == low).with_for_update(nowait=True)
        assert holding.execute(below).scalar_one() == low
        holding.rollback()
        assert settling.result() == []
    assert [engine.client.get(parent).open_children for parent in (low, high)] == [1, 1]
