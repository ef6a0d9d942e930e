"""What pools ask for, and which of their workers are let go: idle ones only, and never one that has just claimed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from fibflow import NewTask, Outcome
from fibflow.errors import LeadLost
from fibflow.scaling import Load
from fibflow.store import demand, draining, leases
from fibflow.store.database import Session, write
from fibflow.store.demand import Demand, Pace
from fibflow.store.installation import Lead, take_lead
from fibflow.store.leases import Origin
from fibflow.store.synced import Name
from fibflow.store.tables import task_type
from fix_semantics import serving

POOL = Name("default", "pool")


@pytest.fixture
def lead(workplace):
    serving(work=lambda ctx, payload: None, other=lambda ctx, payload: None).sync(workplace.database)
    workplace.database.call(_bind, "work", "pool")
    return workplace.database.call(take_lead, "x/y", "me", 0)


@write
def _bind(session: Session, name: str, pool: str | None) -> None:
    session.connection.execute(sa.update(task_type).where(task_type.c.name == name).values(pool=pool))


def registered(workplace, number, pool="pool"):
    place = {"pod_id": f"pod-{number}", "host": "node", "pid": 1, "slots": 4, "lease": 3600.0}
    return workplace.database.call(leases.register, **place, origin=Origin(pod_uid=f"uid-{number}", pool=pool))


def asked(workplace):
    return workplace.database.call(demand.demands)


# ── demand ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_each_pool_its_types_tell_what_waits_runs_and_comes_in(workplace, lead):
    worker = registered(workplace, 1)
    assert asked(workplace) == {POOL: Demand((Load(),))}
    workplace.taken(worker, "work")
    for type_ in ("work", "work", "other"):
        workplace.client.enqueue(type_)
    assert asked(workplace) == {POOL: Demand((Load(waiting=2, running=1, arrival_rate=3 / 60),))}


def test_it_is_told_how_many_of_a_type_one_worker_runs_at_once(workplace, lead):
    workplace.database.call(_limit, "work", 3)
    assert asked(workplace)[POOL].loads == (Load(per_worker=3),)


@write
def _limit(session: Session, name: str, most: int) -> None:
    session.connection.execute(sa.update(task_type).where(task_type.c.name == name).values(max_concurrent_tasks=most))


def test_what_is_due_waits_though_nobody_made_it_ready_and_what_comes_later_does_not(workplace, lead):
    workplace.client.enqueue("work", delay=10)
    workplace.client.enqueue("work", delay=1000)
    assert asked(workplace)[POOL].loads[0].waiting == 0
    workplace.move_clock(11)
    assert asked(workplace)[POOL].loads[0].waiting == 1
    assert workplace.database.call(demand.namespaces_behind) == {"default"}
    workplace.database.call(demand.advance, lead, "default")
    assert workplace.database.call(demand.namespaces_behind) == set()


def test_the_time_that_tasks_took_lately_is_told_and_arrivals_fade(workplace, lead):
    worker = registered(workplace, 1)
    row = workplace.taken(worker, "work")
    workplace.move_clock(4)
    workplace.settled(worker, row, Outcome.COMPLETED, result="null")
    (load,) = asked(workplace)[POOL].loads
    assert (load.running, load.arrival_rate) == (0, 1 / 60) and load.service_time == pytest.approx(4, abs=0.5)
    workplace.move_clock(61)
    assert asked(workplace)[POOL].loads[0].arrival_rate == 0
    workplace.move_clock(600)
    assert asked(workplace)[POOL].loads[0].service_time is None


def test_what_waits_and_what_came_in_is_counted_up_to_a_bound(workplace, lead, monkeypatch):
    for name, bound in (("MOST_WAITING", 4), ("MOST_SEEN", 3)):
        monkeypatch.setattr(demand, name, bound)
    workplace.client.enqueue_many([NewTask("work")] * 5)
    assert asked(workplace)[POOL].loads == (Load(waiting=4, arrival_rate=3 / 60),)


def test_paces_that_are_known_are_not_looked_for_again(workplace, lead):
    workplace.client.enqueue("work")
    (type_id,) = workplace.database.call(demand.paces)
    known = {type_id: Pace(7.0, 2.5)}
    assert workplace.database.call(demand.demands, None, known)[POOL].loads == (Load(1, 0, 7.0, 2.5),)


def test_a_type_that_is_held_back_asks_for_nothing_but_what_runs(workplace, lead):
    worker = registered(workplace, 1)
    workplace.taken(worker, "work")
    workplace.client.enqueue("work")
    workplace.client.pause_type("work")
    assert asked(workplace)[POOL].loads == (Load(running=1),)


def test_the_next_tick_of_a_pool_is_told_and_decided_where_no_worker_is(workplace, lead):
    workplace.client.put_cron("tick", "work", "*/10 * * * * *")
    due_in = asked(workplace)[POOL].due_in
    assert due_in is not None and 0 <= due_in <= 10
    workplace.move_clock(11)
    assert asked(workplace)[POOL].due_in == 0
    workplace.database.call(demand.advance, lead, "default")
    assert asked(workplace)[POOL].loads[0].waiting == 1


def test_who_does_not_lead_advances_nothing(workplace, lead):
    with pytest.raises(LeadLost):
        workplace.database.call(demand.advance, Lead(lead.epoch, "another"), "default")


# ── who goes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_idle_workers_are_marked_the_newest_first_and_busy_ones_never(workplace, lead):
    idle, busy, newest = (registered(workplace, number) for number in (1, 2, 3))
    elsewhere = registered(workplace, 4, pool="another")
    workplace.taken(busy, "work")
    mark = (draining.mark_idle, lead, "default", "pool")
    assert workplace.database.call(*mark, 1) == 1
    assert [each.worker_id for each in workplace.database.call(draining.marked, "default", "pool")] == [newest]
    assert workplace.database.call(*mark, 5) == 1
    assert [each.pod for each in workplace.database.call(draining.marked, "default", "pool")] == ["pod-1", "pod-3"]
    assert elsewhere not in {each.worker_id for each in workplace.database.call(draining.marked, "default", "pool")}
    workplace.database.call(draining.unmark, lead, [idle])
    assert [each.worker_id for each in workplace.database.call(draining.marked, "default", "pool")] == [newest]


def test_a_marked_worker_claims_nothing_and_an_unmarked_one_goes_on(workplace, lead):
    worker = registered(workplace, 1)
    task_id = workplace.client.enqueue("work")
    workplace.database.call(draining.mark_idle, lead, "default", "pool", 1)
    assert workplace.claimed(worker, "work") == []
    workplace.database.call(draining.unmark, lead, [worker])
    assert [row.id for row in workplace.claimed(worker, "work")] == [task_id]


def test_a_worker_that_claims_while_it_is_marked_is_either_busy_or_has_nothing(workplace, lead):
    """Many times both at once: no worker is ever marked that runs a task."""
    elsewhere = workplace.connections()
    for number in range(20):
        worker = registered(workplace, number)
        workplace.client.enqueue("work")
        with ThreadPoolExecutor(1) as thread:
            marking = thread.submit(elsewhere.call, draining.mark_idle, lead, "default", "pool", 1)
            claimed = workplace.claimed(worker, "work")
        assert bool(claimed) is not bool(marking.result())
        workplace.database.call(leases.stop, worker)
    elsewhere.close()


def test_who_does_not_lead_marks_nobody(workplace, lead):
    worker = registered(workplace, 1)
    for verb, told in ((draining.mark_idle, ("default", "pool", 1)), (draining.unmark, ([worker],))):
        with pytest.raises(LeadLost):
            workplace.database.call(verb, Lead(lead.epoch, "another"), *told)
    assert workplace.database.call(draining.marked, "default", "pool") == []
