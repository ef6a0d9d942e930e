"""What an operator stores: rows as they are wanted, runtime pauses left alone, deletions by their policy."""

import dataclasses

import pytest
import sqlalchemy as sa

from fibflow.client import Client
from fibflow.errors import InvalidInput, TaskTypeDraining, UnknownTaskType
from fibflow.model import NewTask, Options, own_pool
from fibflow.store import claim, leases
from fibflow.store.cron import CronDeclaration, pause_cron
from fibflow.store.cron_reading import crons, ticks
from fibflow.store.deciding import decide_ticks
from fibflow.store.figures import TypeFigures, counts, of_resources, queues
from fibflow.store.installation import take_lead
from fibflow.store.synced import (
    DeletionPolicy,
    Name,
    PoolRow,
    TypeRow,
    cancel_deleted,
    code_types,
    forget_pools,
    forget_types,
    stored_pools,
    stored_types,
    sync_pools,
    sync_types,
    tasks_to_cancel,
)
from fibflow.store.synced_crons import (
    CronSync,
    cron_figures,
    cron_row,
    cron_states,
    forget_crons,
    stored_crons,
    sync_crons,
)
from fibflow.store.tables import task, task_type
from fibflow.store.tasktypes import Declaration, declare_types, pause_type, type_named
from fix_database import move_clock

ONE = TypeRow(Name("default", "one"), "code_one", Options(timeout=5), 3, "does", False, DeletionPolicy.DRAIN)
POOL = PoolRow(Name("default", "pool"), "a:b", None, 1, 1, 30)


@pytest.fixture
def lead(database):
    return database.call(take_lead, "x/y", "me", 0)


def cron(name="tick", type_="code_one", schedule="* * * * * *", **more):
    declaration = CronDeclaration(name=name, type=type_, schedule=schedule, concurrency_policy="Allow", **more)
    return cron_row(Name("default", name), declaration)


def test_rows_are_read_as_they_were_written(database, lead):
    row = cron(payload={"a": [1]}, tag="t", options=Options(max_attempts=2, backoff=1.5))
    database.call(sync_types, lead, [ONE])
    database.call(sync_pools, lead, [POOL])
    database.call(sync_crons, lead, [CronSync(row)])
    assert database.call(stored_types) == {ONE.resource: ONE}
    assert database.call(stored_pools, [POOL.resource]) == {POOL.resource: POOL}
    assert database.call(stored_crons, [row.resource]) == {row.resource: row}
    assert database.call(stored_crons, [Name("default", "other")]) == {}


def test_rows_are_changed_to_what_is_wanted(database, lead):
    database.call(sync_types, lead, [ONE])
    database.call(sync_pools, lead, [POOL])
    database.call(sync_crons, lead, [CronSync(cron())])
    other = dataclasses.replace(ONE, options=Options(), description=None, suspended=True)
    database.call(sync_types, lead, [other])
    database.call(sync_pools, lead, [dataclasses.replace(POOL, replicas=0)])
    database.call(sync_crons, lead, [CronSync(cron(schedule="0 3 * * *", suspended=True))])
    assert database.call(stored_types)[ONE.resource] == other
    assert database.call(stored_pools)[POOL.resource].replicas == 0
    (found,) = database.call(stored_crons).values()
    assert (found.schedule, found.suspended) == ("0 3 * * *", True)


def test_many_rows_are_stored_or_none(database, lead):
    database.call(sync_types, lead, [ONE])
    with pytest.raises(UnknownTaskType):
        database.call(sync_crons, lead, [CronSync(cron("a")), CronSync(cron("b", "nowhere"))])
    assert database.call(stored_crons) == {}
    with pytest.raises(InvalidInput):
        database.call(sync_types, lead, [dataclasses.replace(ONE, name=" ")])
    database.call(sync_crons, lead, [CronSync(cron(f"n{number}")) for number in range(50)])
    assert len(database.call(stored_crons)) == 50


def test_a_new_row_starts_at_the_databases_now_whatever_was_missed(database, lead):
    database.call(sync_types, lead, [ONE])
    move_clock(database, 3600)
    database.call(sync_crons, lead, [CronSync(cron())])
    assert database.call(decide_ticks) == 0
    move_clock(database, 1)
    database.call(decide_ticks)
    assert database.call(ticks, "tick").total == 1


def test_a_pause_that_a_status_remembers_is_given_to_a_new_row_only(database, lead):
    database.call(sync_types, lead, [ONE])
    database.call(sync_crons, lead, [CronSync(cron(), "task 7 failed for good")])
    (found,) = database.call(crons)
    assert (found.paused, found.paused_reason) == (True, "task 7 failed for good")
    Client(database).resume_cron("tick")
    database.call(sync_crons, lead, [CronSync(cron(tag="changed"), "task 7 failed for good")])
    assert not database.call(crons)[0].paused


def test_no_sync_ends_a_pause_made_at_run_time(database, lead):
    database.call(sync_types, lead, [ONE])
    database.call(sync_crons, lead, [CronSync(cron())])
    database.call(pause_type, "code_one")
    database.call(pause_cron, "tick")
    database.call(sync_types, lead, [dataclasses.replace(ONE, description="changed")])
    database.call(sync_crons, lead, [CronSync(cron(tag="changed"))])
    assert database.call(type_named, "code_one").paused and database.call(crons)[0].paused


def test_what_code_declared_is_taken_over_and_kept_beneath(database, lead):
    database.call(declare_types, [Declaration("code_one", Options(timeout=1, max_attempts=9))])
    assert database.call(code_types, [Name("default", "code_one")]) == {Name("default", "code_one")}
    database.call(sync_types, lead, [ONE])
    assert database.call(code_types, [Name("default", "code_one")]) == set()
    found = database.call(type_named, "code_one")
    assert (found.source, found.options.timeout, found.options.max_attempts) == ("resource", 5, 9)


def test_a_name_passes_to_another_resource(database, lead):
    database.call(sync_types, lead, [ONE])
    heir = dataclasses.replace(ONE, resource=Name("default", "two"))
    database.call(sync_types, lead, [heir])
    assert database.call(stored_types) == {heir.resource: heir}


def test_a_resource_that_comes_back_with_another_name_leaves_the_old_one_by_its_policy(database, lead):
    database.call(sync_types, lead, [ONE])
    other = dataclasses.replace(ONE, name="code_two")
    database.call(sync_types, lead, [other])
    assert database.call(stored_types) == {ONE.resource: other}
    with pytest.raises(TaskTypeDraining):
        Client(database).enqueue("code_one", {})


@pytest.mark.parametrize(("policy", "accepts", "pending"), [("Retain", True, 2), ("Drain", False, 2), ("Cancel", False, 0)])
def test_a_type_that_is_gone_goes_by_the_policy_last_synced(database, lead, policy, accepts, pending):
    client = Client(database)
    database.call(sync_types, lead, [ONE])
    database.call(sync_types, lead, [dataclasses.replace(ONE, deletion_policy=DeletionPolicy(policy))])
    client.enqueue_many([NewTask("code_one"), NewTask("code_one")])
    database.call(forget_types, lead, [ONE.resource])
    assert database.call(tasks_to_cancel) is (pending == 0)
    while database.call(cancel_deleted, lead, 1):
        pass
    assert client.tasks(status="pending").total == pending
    if accepts:
        client.enqueue("code_one", {})
    else:
        with pytest.raises(TaskTypeDraining, match="its TaskType in namespace 'default' was deleted; apply it again"):
            client.enqueue("code_one", {})
        database.call(sync_types, lead, [ONE])
        client.enqueue("code_one", {})


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_others_hold_is_cancelled_the_next_time_and_holds_nothing_up(database, lead):
    gone = dataclasses.replace(ONE, deletion_policy=DeletionPolicy.CANCEL)
    database.call(sync_types, lead, [gone])
    held, free = Client(database).enqueue_many([NewTask("code_one"), NewTask("code_one")])
    database.call(forget_types, lead, [gone.resource])
    with database.engine.connect() as holding:
        holding.execute(sa.select(task).where(task.c.id == held).with_for_update())
        assert database.call(cancel_deleted, lead) == 1
        assert [Client(database).get(each).status for each in (held, free)] == ["pending", "cancelled"]
    assert database.call(cancel_deleted, lead) == 1


@pytest.mark.parametrize(("policy", "pending", "running"), [("Retain", 2, 1), ("Drain", 0, 1), ("Cancel", 0, 0)])
def test_with_a_type_its_own_workers_go_and_what_waits_for_them_is_cancelled(database, lead, policy, pending, running):
    client, own = Client(database), dataclasses.replace(ONE, pool=own_pool("one"), deletion_policy=DeletionPolicy(policy))
    database.call(sync_types, lead, [own])
    first, *others = client.enqueue_many([NewTask("code_one"), NewTask("code_one"), NewTask("code_one", delay=60)])
    worker_id = database.call(leases.register, pod_id="p", host="h", pid=1, slots=1, lease=60.0)
    database.call(claim.claim, worker_id, [claim.Lane(database.call(type_named, "code_one").id, 1)], 1)
    database.call(forget_types, lead, [own.resource])
    while database.call(cancel_deleted, lead, 1):
        pass
    assert [client.tasks(status=each).total for each in ("pending", "running")] == [pending, running]
    assert policy == "Retain" or [client.get(each).error for each in others] == ["TypeDeleted"] * 2
    assert (client.get(first).status == "running") is (policy != "Cancel")


def test_a_cron_task_that_is_gone_keeps_its_tasks(database, lead):
    database.call(sync_types, lead, [ONE])
    database.call(sync_crons, lead, [CronSync(cron())])
    move_clock(database, 1)
    database.call(decide_ticks)
    database.call(forget_crons, lead, [Name("default", "tick")])
    assert database.call(stored_crons) == {} and Client(database).tasks().total == 1


def test_a_pool_that_is_gone_is_gone(database, lead):
    database.call(sync_pools, lead, [POOL])
    database.call(forget_pools, lead, [POOL.resource])
    assert database.call(stored_pools) == {}


def test_the_figures_of_a_type_count_its_tasks(database, lead):
    database.call(sync_types, lead, [ONE])
    assert of_resources(database.call(queues)) == {ONE.resource: TypeFigures()}
    Client(database).enqueue_many([NewTask("code_one"), NewTask("code_one", delay=60)])
    found = of_resources(database.call(queues))[ONE.resource]
    assert (found.pending, found.running, found.failed, found.oldest_pending is not None) == (2, 0, 0, True)


def test_what_is_due_has_been_waiting_since_then_though_no_worker_is_there_to_make_it_ready(database, lead):
    database.call(sync_types, lead, [ONE])
    Client(database).enqueue("code_one", delay=60)
    assert of_resources(database.call(queues))[ONE.resource].oldest_pending is None
    move_clock(database, 90)
    found = of_resources(database.call(queues))[ONE.resource]
    with database.engine.connect() as connection:
        assert found.oldest_pending == connection.execute(sa.select(task.c.run_at)).scalar_one()


def test_what_was_counted_of_a_type_is_told_of_that_name_whatever_id_it_has(database, lead):
    database.call(sync_types, lead, [ONE])
    Client(database).enqueue("code_one")
    known = database.call(counts)
    with database.engine.begin() as connection:
        connection.execute(sa.update(task_type).values(name="was_one", resource="was-one"))
    database.call(sync_types, lead, [ONE])
    found = {queue.type: queue.figures.pending for queue in database.call(queues, known)}
    assert found == {"code_one": 1, "was_one": 0}


def test_the_figures_of_a_cron_task_tell_its_ticks(database, lead):
    name = Name("default", "tick")
    database.call(sync_types, lead, [ONE])
    database.call(sync_crons, lead, [CronSync(cron())])
    before = database.call(cron_states)[name]
    fresh = database.call(cron_figures, [name])[name]
    assert (fresh.last_tick, fresh.missed, fresh.active, fresh.next_ticks[0]) == (None, 0, 0, before.next_at)
    move_clock(database, 30)
    database.call(decide_ticks)
    found = database.call(cron_figures, [name])[name]
    assert found.last_outcome == "pending" and found.missed > 0 and found.active > 0
    assert found.next_ticks[0] < found.next_ticks[1] < found.next_ticks[2]
    assert database.call(cron_states)[name] != before
    assert database.call(cron_figures, [Name("default", "other")]) == {}
