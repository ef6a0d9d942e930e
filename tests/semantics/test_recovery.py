"""Workers that die: who takes their tasks back, and what becomes of these."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from fibflow import Status, child
from fibflow.errors import LeaseLost
from fibflow.model import INTERRUPTION_BUDGET
from fibflow.store import leases, polling, recovery
from fibflow_worker.runtime import Settings
from fix_semantics import Gate, serving, until

LONGEST_WAIT = 2.0**INTERRUPTION_BUDGET
"""Seconds after which whatever was taken back is due."""


async def echo(ctx, payload):
    return payload


def work():
    return serving(work=echo)


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
        heir = workplace.registered("pod-1")
        workplace.move_clock(LONGEST_WAIT)
        workplace.database.call(polling.promote)
        assert [again.id for again in workplace.claimed(heir, "work")] == [row.id]
    workplace.registered("pod-1")
    task = workplace.client.get(row.id)
    assert (task.status, task.interruptions, task.failures) == (Status.PERMANENTLY_FAILED, INTERRUPTION_BUDGET + 1, 0)
    assert task.error.startswith("the interruption budget is used up: its worker")
    assert workplace.events(row.id)[-2:] == ["recovered", "permanently_failed"]


def test_what_was_lost_three_times_waits_a_while_of_its_own(workplace, monkeypatch):
    work().sync(workplace.database)
    kills = workplace.taken(workplace.registered("pod-1"), "work")
    beside = workplace.client.enqueue("work")
    for _ in range(2):
        assert {row.id for row in workplace.claimed(workplace.registered("pod-1"), "work")} == {kills.id, beside}
    monkeypatch.setattr(recovery, "random", SimpleNamespace(random=lambda: 0.9))
    workplace.registered("pod-1")
    waits = [task.run_at - workplace.client.attempts(task.id).items[-1].ended_at for task in workplace.client.tasks().items]
    assert sorted(waits) == [timedelta(seconds=0), timedelta(seconds=0.9)]
    assert workplace.client.get(kills.id).interruptions == 3


def test_without_recovery_lost_rows_wait_for_their_deadline(workplace):
    work().sync(workplace.database)
    dead, reaper = workplace.registered("pod-1", lease=10), workplace.registered("pod-2")
    row = workplace.taken(dead, "work", timeout=60)
    workplace.move_clock(11)
    assert workplace.database.call(leases.reap, reaper, recover=False) == [dead]
    assert (workplace.client.get(row.id).status, workplace.client.get(row.id).worker_id) == (Status.RUNNING, dead)
    assert [type(refusal) for refusal in workplace.settled(dead, row)] == [LeaseLost]
    workplace.move_clock(63)
    assert workplace.database.call(recovery.time_out_overdue, reaper) == 1
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
