"""Leases: when they end, who supersedes whom, and how a worker that lost its own comes back."""

import pytest

from fibflow import Status
from fibflow.errors import InvalidInput, WorkerLost
from fibflow.store import leases, polling
from fibflow.store.clock import from_datetime
from fix_database import stop_clock
from fix_semantics import Gate, serving, until


async def echo(ctx, payload):
    return payload


def work():
    return serving(work=echo)


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


# ── what is left behind ───────────────────────────────────────────────────────────────────────────────────────────


def test_registering_takes_back_what_the_pod_left_running_before(workplace):
    work().sync(workplace.database)
    old = workplace.registered("pod-1")
    task_id = workplace.taken(old, "work").id
    workplace.database.call(leases.stop, old)
    assert workplace.client.get(task_id).status is Status.RUNNING
    workplace.registered("pod-1")
    assert workplace.client.get(task_id).status is Status.PENDING


def test_whoever_ends_a_lease_of_any_namespace_takes_its_tasks_back_too(workplace):
    work().sync(workplace.database)
    dead = workplace.registered("pod-1", lease=10)
    task_id = workplace.taken(dead, "work").id
    elsewhere = workplace.connections("elsewhere")
    other = elsewhere.call(leases.register, pod_id="pod-1", host="host", pid=1, slots=1, lease=3600.0)
    workplace.move_clock(11)
    assert elsewhere.call(polling.look_for_lost).expired
    assert elsewhere.call(leases.reap, other) == [dead]
    assert workplace.client.get(task_id).status is Status.PENDING
    elsewhere.close()
