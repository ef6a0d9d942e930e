"""Pods that are gone, that restarted, or whose node is silent: what becomes of their workers and tasks; pools; health."""

import pytest
import sqlalchemy as sa

from fibflow import Status
from fibflow.errors import LeadLost, PodFenced, WorkerLost
from fibflow.store import leases, lost_pods
from fibflow.store.database import Session, write
from fibflow.store.installation import Lead, take_lead
from fibflow.store.leases import Origin
from fibflow.store.tables import task_type
from fibflow.store.tables import worker as worker_table
from fibflow_worker.health import live, ready
from fibflow_worker.runtime import Settings, State, Worker
from fix_semantics import Gate, serving, until


@pytest.fixture
def lead(workplace):
    return workplace.database.call(take_lead, "x/y", "me", 0)


def registered(workplace, uid, pod="pod-1", **origin):
    place = {"pod_id": pod, "host": "node", "pid": 1, "slots": 4, "lease": 3600.0}
    return workplace.database.call(leases.register, **place, origin=Origin(pod_uid=uid, **origin))


def working(workplace, worker):
    """A task that this worker runs."""
    serving(work=lambda ctx, payload: None).sync(workplace.database)
    return workplace.taken(worker, "work").id


def test_the_tasks_of_a_pod_that_is_gone_are_pending_at_once(workplace, lead):
    worker, other = registered(workplace, "uid-1"), registered(workplace, "uid-2", "pod-2")
    task_id = working(workplace, worker)
    assert workplace.database.call(lost_pods.fence_pods, lead, ["uid-1"]) == [worker]
    assert workplace.client.get(task_id).status is Status.PENDING
    assert workplace.worker(other).status == "active"
    events = workplace.client.events(task_id).items
    assert "the operator took it back" in next(event.message for event in events if event.type == "task_recovered")


def test_a_pod_that_is_gone_never_registers_nor_renews_again(workplace, lead):
    worker = registered(workplace, "uid-1")
    workplace.database.call(lost_pods.fence_pods, lead, ["uid-1"])
    with pytest.raises(PodFenced, match="'uid-1' was deleted or has failed"):
        registered(workplace, "uid-1")
    with pytest.raises(WorkerLost):
        workplace.database.call(leases.renew, worker)
    assert registered(workplace, "uid-2") > worker  # the name is another pod's now


def test_a_pod_may_be_fenced_that_never_registered_and_again(workplace, lead):
    assert workplace.database.call(lost_pods.fence_pods, lead, ["uid-1"]) == []
    assert workplace.database.call(lost_pods.fence_pods, lead, ["uid-1", "uid-2"]) == []
    with pytest.raises(PodFenced):
        registered(workplace, "uid-2")


def test_a_running_worker_of_a_fenced_pod_ends(workplace, lead):
    worker = workplace.start(serving(work=lambda ctx, payload: None), pod_id="pod-1", pod_uid="uid-1")
    workplace.database.call(lost_pods.fence_pods, lead, ["uid-1"])
    ended = workplace.running.pop(worker)
    with pytest.raises(PodFenced):
        ended.result(15)
    workplace.within(worker.database.aclose())


def test_who_does_not_lead_fences_nothing(workplace, lead):
    worker = registered(workplace, "uid-1", process_started_at=1, heartbeat=0.001)
    late = Lead(lead.epoch, "another")
    for verb, told in ((lost_pods.fence_pods, (["uid-1"],)), (lost_pods.reap_former, ("uid-1", 5))):
        with pytest.raises(LeadLost):
            workplace.database.call(verb, late, *told)
    with pytest.raises(LeadLost):
        workplace.database.call(lost_pods.reap_silent, late, ["uid-1"])
    assert workplace.worker(worker).status == "active"
    assert registered(workplace, "uid-1", "pod-2")


def test_a_container_that_ended_loses_its_process_and_not_its_successor(workplace, lead):
    former = registered(workplace, "uid-1", process_started_at=1_000_000)
    task_id = working(workplace, former)
    elsewhere = registered(workplace, "uid-2", "pod-2", process_started_at=1_000_000)
    assert workplace.database.call(lost_pods.reap_former, lead, "uid-1", 1_000_000) == []
    assert workplace.database.call(lost_pods.reap_former, lead, "uid-1", 2_000_000) == [former]
    assert workplace.client.get(task_id).status is Status.PENDING
    successor = registered(workplace, "uid-1", process_started_at=2_500_000)
    assert workplace.database.call(lost_pods.reap_former, lead, "uid-1", 2_000_000) == []
    assert [workplace.worker(each).status for each in (successor, elsewhere)] == ["active", "active"]


def test_on_a_silent_node_only_who_missed_two_heartbeats_is_reaped(workplace, lead):
    silent = registered(workplace, "uid-1", heartbeat=5.0)
    renewing = registered(workplace, "uid-2", "pod-2", heartbeat=5.0)
    elsewhere = registered(workplace, "uid-3", "pod-3", heartbeat=5.0)
    task_id = working(workplace, silent)
    workplace.move_clock(9)
    workplace.database.call(leases.renew, renewing)
    assert workplace.database.call(lost_pods.reap_silent, lead, ["uid-1", "uid-2"]) == []
    workplace.move_clock(2)
    assert workplace.database.call(lost_pods.reap_silent, lead, ["uid-1", "uid-2"]) == [silent]
    assert workplace.client.get(task_id).status is Status.PENDING
    assert workplace.worker(elsewhere).status == "active"
    assert registered(workplace, "uid-1") > silent  # it is not gone for good


def test_when_a_worker_will_have_missed_two_heartbeats_is_known_to_the_microsecond(workplace, lead):
    assert workplace.database.call(lost_pods.silent_in, ["uid-1"]) is None
    silent = registered(workplace, "uid-1", heartbeat=5.0)
    registered(workplace, "uid-1", "other", heartbeat=600.0)
    registered(workplace, "uid-2", "pod-2", heartbeat=1.0)
    left = workplace.database.call(lost_pods.silent_in, ["uid-1"])
    assert 9 < left <= 10.000_001
    workplace.move_clock(left)
    assert workplace.database.call(lost_pods.silent_in, ["uid-1"]) == 0
    assert workplace.database.call(lost_pods.reap_silent, lead, ["uid-1"]) == [silent]
    assert workplace.database.call(lost_pods.silent_in, ["uid-1"]) > 1000


def test_a_worker_promises_the_longest_pause_between_two_beats(workplace):
    worker = workplace.start(serving(work=lambda ctx, payload: None), heartbeat_interval=2.0)
    promised = sa.select(worker_table.c.heartbeat).where(worker_table.c.id == worker.worker_id)
    with workplace.database.engine.connect() as connection:
        assert connection.execute(promised).scalar_one() == 1_900_000


def test_only_pods_of_pools_are_told_of(workplace, lead):
    registered(workplace, "uid-1", pool="fast")
    registered(workplace, "uid-2", "pod-2")
    gone = registered(workplace, "uid-3", "pod-3", pool="fast")
    workplace.database.call(leases.stop, gone)
    assert workplace.database.call(lost_pods.pods_with_leases) == {lost_pods.PodRow("default", "pod-1", "uid-1")}


# ── pools ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@write
def _bind(session: Session, name: str, pool: str | None) -> None:
    session.connection.execute(sa.update(task_type).where(task_type.c.name == name).values(pool=pool))


def test_a_worker_of_a_pool_runs_what_is_bound_to_it_and_nothing_else(workplace):
    ran = []

    async def note(ctx, payload):
        ran.append(ctx.name)

    app = serving(bound=note, elsewhere=note, free=note)
    app.sync(workplace.database)
    workplace.database.call(_bind, "bound", "fast")
    workplace.database.call(_bind, "elsewhere", "slow")
    ids = [workplace.client.enqueue(name) for name in ("elsewhere", "free", "bound")]
    workplace.run(Worker(app, workplace.connections("default"), Settings(pool="fast", poll_interval=0.02)))
    workplace.ended(ids[2])
    workplace.run(Worker(app, workplace.connections("default"), Settings(poll_interval=0.02)))
    workplace.ended(ids[1])
    assert ran == ["bound", "free"]
    assert workplace.client.get(ids[0]).status is Status.PENDING


def test_a_worker_may_run_what_is_bound_to_none_beside_what_is_bound_to_its_pool(workplace):
    ran = []

    async def note(ctx, payload):
        ran.append(ctx.name)

    app = serving(bound=note, elsewhere=note, free=note)
    app.sync(workplace.database)
    workplace.database.call(_bind, "bound", "fast")
    workplace.database.call(_bind, "elsewhere", "slow")
    ids = [workplace.client.enqueue(name) for name in ("elsewhere", "free", "bound")]
    settings = Settings(pool="fast", unbound=True, poll_interval=0.02)
    workplace.run(Worker(app, workplace.connections("default"), settings))
    workplace.ended(ids[1]), workplace.ended(ids[2])
    assert sorted(ran) == ["bound", "free"]
    assert workplace.client.get(ids[0]).status is Status.PENDING


def test_a_type_that_only_code_declares_is_bound_to_the_pool_of_its_first_worker(workplace):
    async def echo(ctx, payload):
        return payload

    app = serving(own=echo)
    workplace.run(Worker(app, workplace.connections("default"), Settings(pool="fast", poll_interval=0.02)))
    task_id = workplace.client.enqueue("own", 7)
    assert workplace.ended(task_id).result == 7


# ── draining from outside ─────────────────────────────────────────────────────────────────────────────────────────


@write
def _mark(session: Session, worker_id: int, draining: bool) -> None:
    session.connection.execute(sa.update(worker_table).where(worker_table.c.id == worker_id).values(draining=draining))


def test_a_worker_that_is_marked_draining_claims_nothing_until_the_mark_is_taken_back(workplace):
    worker = registered(workplace, "uid-1")
    serving(work=lambda ctx, payload: None).sync(workplace.database)
    task_id = workplace.client.enqueue("work")
    workplace.database.call(_mark, worker, True)
    assert workplace.claimed(worker, "work") == []
    workplace.database.call(_mark, worker, False)
    assert [row.id for row in workplace.claimed(worker, "work")] == [task_id]


# ── health ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_is_ready_once_it_has_registered_and_stays_so_while_it_drains(workplace):
    gate = Gate()

    async def slow(ctx, payload):
        await gate.passed()

    fresh = Worker(serving(work=slow), workplace.connections("default"), Settings(poll_interval=0.02))
    assert ready(fresh) == ["it has not registered yet"]
    worker = workplace.run(fresh)
    assert ready(worker) == []
    workplace.client.enqueue("work")
    gate.reached()
    workplace.tell(worker.stop)
    until(lambda: worker.state is State.DRAINING)
    assert ready(worker) == live(worker) == []
    gate.open()
    workplace.left(worker)


def test_a_worker_whose_loop_or_heartbeat_stands_still_is_not_live(workplace):
    worker = workplace.start(serving(work=lambda ctx, payload: None))
    workplace.stop(worker)
    assert any("the heartbeat has not turned" in said for said in live(worker))
    worker.turned_at -= 31
    assert "the event loop has not turned" in live(worker)[0]
