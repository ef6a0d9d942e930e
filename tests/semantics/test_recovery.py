"""Workers that die, are superseded or evicted: what becomes of their tasks, of their writes, and of themselves."""

import pytest

from fibflow import NewTask, Outcome, Status, child
from fibflow.errors import InvalidInput, LeaseLost, WorkerLost
from fibflow.lifecycle import Facts, after_failure, ended
from fibflow.metrics import STALE_WRITES
from fibflow.model import INTERRUPTION_BUDGET
from fibflow.store import leases, record
from fibflow.store.clock import from_datetime
from fibflow.store.ending import Ending
from fibflow_worker.runtime import Settings
from fix_database import stop_clock
from fix_semantics import Gate, serving, until


async def echo(ctx, payload):
    return payload


def work():
    return serving(work=echo)


# ── who is lost, and what becomes of the tasks ────────────────────────────────────────────────────────────────────


def test_a_worker_without_a_pod_stands_for_itself(workplace):
    work().sync(workplace.database)
    dead, alive = workplace.registered(lease=10), workplace.registered()
    assert isinstance(dead, int) and dead < alive
    assert workplace.worker(dead).status == workplace.worker(alive).status == "active"
    task_id = workplace.taken(dead, "work", {"n": 1}).id
    workplace.move_clock(11)
    rescuer = workplace.start(work())
    assert workplace.ended(task_id).worker_id == rescuer.worker_id
    assert workplace.worker(dead).status == "reaped"
    assert workplace.worker(alive).status == workplace.worker(rescuer.worker_id).status == "active"
    assert "worker_id" not in Settings.__dataclass_fields__


def dies(workplace, start):
    """Its lease runs out before the peer starts."""
    workplace.move_clock(11)
    return start()


def dies_meanwhile(workplace, start):
    """Its lease runs out while the peer is there."""
    peer = start()
    workplace.move_clock(11)
    return peer


def is_missed(workplace, start):
    """Whoever took its lease did not see what it was just claiming."""
    workplace.evict(workplace.client.workers()[0].id, "superseded")
    return start()


@pytest.mark.parametrize(("lost", "cause"), [(dies, "reaped"), (dies_meanwhile, "reaped"), (is_missed, "superseded")])
def test_a_peer_takes_back_the_tasks_of_a_dead_worker(workplace, lost, cause):
    work().sync(workplace.database)
    dead = workplace.registered("pod-1", lease=10)
    task_id = workplace.taken(dead, "work", {"n": 1}).id
    peer = lost(workplace, lambda: workplace.start(work(), pod_id="pod-2"))
    done = workplace.ended(task_id)
    assert (done.status, done.failures, done.interruptions) == (Status.COMPLETED, 0, 1)
    assert workplace.outcomes(task_id) == ["interrupted", "completed"]
    attempt = workplace.client.attempts(task_id).items[0]
    assert (attempt.worker_id, attempt.ended_by) == (dead, peer.worker_id)
    assert attempt.error == f"its worker {dead} was {cause}; worker {peer.worker_id} took it back"
    (event,) = workplace.client.events(task_id, types=["task_recovered"]).items
    assert (event.from_status, event.to_status) == (Status.RUNNING, Status.PENDING)
    assert (event.worker_id, event.message) == (peer.worker_id, attempt.error)
    assert event.metadata == {
        "lost_worker": dead,
        "lost_pod": "pod-1",
        "recovered_by": peer.worker_id,
        "recovered_by_pod": "pod-2",
        "cause": cause,
    }


def test_registering_takes_back_what_the_dead_of_any_pod_held(workplace):
    work().sync(workplace.database)
    dead, alive = workplace.registered("pod-1", lease=10), workplace.registered("pod-2")
    task_id = workplace.taken(dead, "work").id
    workplace.move_clock(11)
    new = workplace.registered("pod-3")
    assert (workplace.worker(dead).status, workplace.worker(dead).ended_by) == ("reaped", new)
    assert workplace.worker(alive).status == "active"
    assert workplace.client.get(task_id).status is Status.PENDING


def test_a_living_workers_tasks_are_left_alone(workplace):
    told = []

    async def busy(ctx, payload):
        # Nothing else runs in this loop meanwhile; the lease that the handler started under runs out.
        first = workplace.client.workers()[0].expires_at
        until(lambda: workplace.client.workers()[0].renewed_at > first)
        told.append(workplace.client.workers()[0].running)

    workplace.start(serving(busy=busy), lease=1)
    workplace.start(serving(other=echo))
    done = workplace.outcome("busy")
    assert told == [1]
    assert (done.status, done.attempt, done.interruptions) == (Status.COMPLETED, 1, 0)


def test_a_new_worker_of_a_pod_supersedes_the_old_one(workplace):
    work().sync(workplace.database)
    old, other = workplace.registered("pod-1"), workplace.registered("pod-2")
    elsewhere = workplace.connections("elsewhere")
    namesake = elsewhere.call(leases.register, pod_id="pod-1", host="host", pid=1, slots=1, lease=30.0)
    task_id = workplace.taken(old, "work").id
    new = workplace.registered("pod-1")
    assert (workplace.worker(old).status, workplace.worker(old).ended_by) == ("superseded", new)
    assert workplace.worker(other).status == workplace.worker(new).status == "active"
    assert elsewhere.call(leases.renew, namesake) is False
    assert workplace.client.get(task_id).status is Status.PENDING
    elsewhere.close()


def test_a_recovered_task_keeps_its_stage_and_failures(workplace):
    gate, seen = Gate(), []

    async def parent(ctx, payload):
        if ctx.attempt == 1:
            raise RuntimeError("broken on purpose")
        if ctx.stage == 0:
            return ctx.spawn([child("kid", {"n": 1})], context=b"so far")
        seen.append((ctx.stage, ctx.failures, ctx.context, [part.result for part in ctx.children]))
        await gate.passed()

    workplace.start(serving(parent=parent, kid=echo), pod_id="pod-1")
    task_id = workplace.client.enqueue("parent")
    gate.reached()
    workplace.registered("pod-1")
    lost = workplace.client.get(task_id)
    assert (lost.status, lost.worker_id, lost.failures, lost.interruptions) == (Status.PENDING, None, 1, 1)
    assert lost.run_at == workplace.client.attempts(task_id).items[-1].ended_at
    gate.open()
    workplace.start(serving(parent=parent, kid=echo), pod_id="pod-2")
    assert workplace.ended(task_id).failures == 1
    assert seen == [(1, 1, b"so far", [{"n": 1}])] * 2


def test_a_task_that_keeps_losing_its_workers_ends(workplace):
    work().sync(workplace.database)
    row = workplace.taken(workplace.registered("pod-1"), "work")
    for _ in range(INTERRUPTION_BUDGET):
        assert [again.id for again in workplace.claimed(workplace.registered("pod-1"), "work")] == [row.id]
    workplace.registered("pod-1")
    task = workplace.client.get(row.id)
    assert (task.status, task.interruptions, task.failures) == (Status.PERMANENTLY_FAILED, INTERRUPTION_BUDGET + 1, 0)
    assert task.error.startswith("the interruption budget is used up: its worker")
    assert workplace.events(row.id)[-2:] == ["recovered", "permanently_failed"]


def test_without_recovery_lost_rows_wait_for_their_deadline(workplace):
    work().sync(workplace.database)
    dead, reaper = workplace.registered("pod-1", lease=10), workplace.registered("pod-2")
    row = workplace.taken(dead, "work", timeout=60)
    workplace.move_clock(11)
    assert workplace.database.call(leases.reap, reaper, recover=False) == [dead]
    assert (workplace.client.get(row.id).status, workplace.client.get(row.id).worker_id) == (Status.RUNNING, dead)
    assert [type(refusal) for refusal in workplace.settled(dead, row)] == [LeaseLost]
    workplace.move_clock(63)
    assert workplace.database.call(leases.time_out_overdue, reaper) == 1
    task = workplace.client.get(row.id)
    assert (task.status, task.last_outcome, task.failures) == (Status.PENDING, "timeout", 1)


def test_a_worker_told_not_to_recover_leaves_lost_rows_alone(workplace):
    work().sync(workplace.database)
    dead = workplace.registered("pod-1", lease=10)
    row = workplace.taken(dead, "work", timeout=60)
    workplace.move_clock(11)
    peer = workplace.start(work(), pod_id="pod-2", recover_running_tasks=False)
    until(lambda: workplace.worker(dead).status == "reaped")
    workplace.beats(peer.worker_id)
    assert (workplace.client.get(row.id).status, workplace.client.get(row.id).worker_id) == (Status.RUNNING, dead)


# ── leases ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lease_ends_after_its_expiry_and_not_at_it(workplace, monkeypatch):
    worker, other = workplace.registered("pod-1", lease=10), workplace.registered("pod-2")
    expiry = from_datetime(workplace.worker(worker).expires_at)
    stop_clock(workplace.database, expiry, monkeypatch)
    assert workplace.database.call(leases.reap, other) == []
    stop_clock(workplace.database, expiry + 1, monkeypatch)
    assert workplace.database.call(leases.reap, other) == [worker]


def test_a_superseded_worker_can_neither_renew_nor_claim(workplace):
    work().sync(workplace.database)
    old, new = workplace.registered("pod-1"), workplace.registered("pod-1")
    task_id = workplace.client.enqueue("work")
    with pytest.raises(WorkerLost, match=f"worker {old} was reaped or superseded"):
        workplace.database.call(leases.renew, old)
    assert workplace.claimed(old, "work") == []
    assert [row.id for row in workplace.claimed(new, "work")] == [task_id]


# ── late writes ───────────────────────────────────────────────────────────────────────────────────────────────────


def writes(workplace, worker, row):
    """Every write that an attempt can make, by its verb."""
    suspended = ended(Facts(), Outcome.SUSPENDED)
    ending = Ending(row.id, row.attempt, worker, Outcome.SUSPENDED, suspended, children=1)
    call, key = workplace.database.call, (worker, row.id, row.attempt)
    note, snapshot = record.progress_note("late", None, 10, None, None)
    return {
        "complete": lambda: workplace.settled(worker, row, result="1"),
        "fail": lambda: workplace.settled(worker, row, Outcome.FAILED, after_failure(Facts()), error="late"),
        "time_out": lambda: workplace.settled(worker, row, Outcome.TIMEOUT, after_failure(Facts()), error="late"),
        "suspend": lambda: workplace.settled(worker, row, Outcome.SUSPENDED, suspend_reason="late"),
        "spawn": lambda: call(record.spawn, worker, ending, [NewTask("work")]),
        "progress": lambda: [call(record.note_running, *key, note, snapshot)],
        "checkpoint": lambda: [call(record.note_running, *key, record.checkpoint_note("late", None, None), {})],
    }


def counted():
    return sum(s.value for metric in STALE_WRITES.collect() for s in metric.samples if s.name.endswith("_total"))


@pytest.mark.parametrize("again", [False, True])
def test_a_superseded_worker_writes_nothing(workplace, again):
    """Whether the task waits to be claimed, or its successor has claimed it."""
    work().sync(workplace.database)
    old = workplace.registered("pod-1")
    row = workplace.taken(old, "work")
    new = workplace.registered("pod-1")
    if again:
        workplace.claimed(new, "work")
    before, told = workplace.client.get(row.id), workplace.events(row.id)
    metric = counted()
    late = writes(workplace, old, row)
    for write in late.values():
        (refusal,) = write()
        assert isinstance(refusal, LeaseLost)
    assert workplace.client.get(row.id) == before
    assert workplace.client.tasks().total == 1
    assert [event for event in workplace.events(row.id) if event != "stale_write_rejected"] == told
    refused = workplace.client.events(row.id, types=["task_stale_write_rejected"]).items
    assert {(event.attempt, event.worker_id) for event in refused} == {(1, old)}
    assert counted() - metric == sum(event.metadata["count"] for event in refused) == len(late)


def test_only_a_running_attempt_reports(workplace):
    work().sync(workplace.database)
    worker = workplace.registered("pod-1")
    task_id = workplace.client.enqueue("work")
    note, snapshot = record.progress_note("never begun", None, None, None, None)
    for missing in (task_id, task_id + 1):
        refusal = workplace.database.call(record.note_running, worker, missing, 0, note, snapshot)
        assert isinstance(refusal, LeaseLost)
    assert workplace.client.get(task_id).progress_text is None


def test_a_handler_hears_that_its_lease_is_lost(workplace):
    gate, heard = Gate(), []

    def stubborn(ctx, payload):
        gate.wait()
        heard.append(until(lambda: ctx.cancelled))
        for report in (lambda: ctx.progress("late"), lambda: ctx.checkpoint("late")):
            with pytest.raises(LeaseLost):
                report()
            heard.append("refused")

    workplace.start(serving(stubborn=stubborn), pod_id="pod-1")
    task_id = workplace.client.enqueue("stubborn")
    gate.reached()
    workplace.registered("pod-1")
    before = workplace.client.get(task_id)
    gate.open()
    until(lambda: len(heard) == 3)
    assert heard == ["lease_lost", "refused", "refused"]
    assert workplace.client.get(task_id) == before


# ── coming back ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_evicted_worker_returns_under_a_new_id_and_stays(workplace):
    gate = Gate()

    async def slow(ctx, payload):
        await gate.passed()

    worker = workplace.start(serving(slow=slow))
    first = worker.worker_id
    workplace.evict(first)
    until(lambda: worker.worker_id > first)
    second = worker.worker_id
    workplace.beats(second, 3)
    task_id = workplace.client.enqueue("slow")
    gate.reached()
    workplace.beats(second, 3)
    gate.open()
    assert workplace.ended(task_id).worker_id == second
    assert [(row.id, row.status) for row in workplace.client.workers()] == [(first, "reaped"), (second, "active")]


def test_a_superseded_worker_returns_when_its_rival_is_gone(workplace):
    gate, left = Gate(), []

    async def slow(ctx, payload):
        try:
            await gate.passed()
        finally:
            left.append(ctx.attempt)

    worker = workplace.start(serving(slow=slow), pod_id="pod-1")
    first = worker.worker_id
    task_id = workplace.client.enqueue("slow")
    gate.reached()
    rival = workplace.registered("pod-1", lease=10)
    until(lambda: left == [1])
    gate.open()
    assert workplace.worker(rival).status == "active"
    assert workplace.client.get(task_id).status is Status.PENDING
    workplace.move_clock(11)
    assert workplace.ended(task_id).worker_id == worker.worker_id > rival
    rows = [(row.id, row.status) for row in workplace.client.workers()]
    assert rows == [(first, "superseded"), (rival, "reaped"), (worker.worker_id, "active")]


def test_workers_are_listed_by_pod_and_status(workplace):
    stopped = workplace.start(work(), pod_id="pod-1")
    workplace.stop(stopped)
    old, new = workplace.registered("pod-2"), workplace.registered("pod-2")
    expired = workplace.registered(lease=10)
    workplace.move_clock(11)
    assert workplace.database.call(leases.reap, new) == [expired]
    listed = {row.id: str(row.status) for row in workplace.client.workers()}
    assert listed == {stopped.worker_id: "stopped", old: "superseded", new: "active", expired: "reaped"}
    assert list(listed) == sorted(listed)
    assert [row.id for row in workplace.client.workers(pod_id="pod-2")] == [old, new]
    assert [row.id for row in workplace.client.workers(pod_id="pod-2", status="active")] == [new]
    with pytest.raises(InvalidInput, match="status: 'dead' is not one of active, stopped, reaped, superseded"):
        workplace.client.workers(status="dead")
    row = workplace.client.workers(status="active")[0]
    assert (row.pod_id, row.host, row.pid, row.slots) == ("pod-2", "host", 1, 10)
    assert row.registered_at == row.renewed_at < row.expires_at
    assert row.ended_at is None
    gone = workplace.client.workers(pod_id="pod-1")[0]
    assert gone.ended_at is not None and gone.ended_by is None
