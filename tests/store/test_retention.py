"""Retention takes whole workflows or nothing, in bounded batches, and waits for nobody."""

import pytest
import sqlalchemy as sa

from fibflow.errors import InvalidInput
from fibflow.store import tables
from fibflow.store.reading import find
from fibflow.store.removal import Share, share
from fibflow.store.retention import Deleted, Forgotten, Pruned, delete, forget, prune


def _left(stored):
    return [task.id for task in stored.call(find).items]


def test_a_workflow_goes_with_all_that_is_told_of_it(stored):
    root = stored.task("completed", ended=100, attempt=1)
    child = stored.task("cancelled", ended=100, parent_id=root)
    kept = stored.task("completed", ended=10, attempt=1)
    for task in (root, kept):
        stored.attempt(task)
        stored.event(task, "task_progress", 1, 3, 50)
    stored.put(tables.stale_write, task_id=child, fence=1, verb="fail", worker_id=1, at=1, count=1)

    assert stored.call(prune, age=50) == Pruned(workflows=1, tasks=2, attempts=1, events=2, more=False)
    assert _left(stored) == [kept]
    assert (stored.count(tables.attempt), stored.count(tables.event), stored.count(tables.stale_write)) == (1, 1, 0)
    assert stored.call(prune, age=50) == Pruned(0, 0, 0, 0, False)


def test_a_workflow_stays_while_anything_in_it_is_young_or_goes_on(stored):
    for child in ({"status": "ready"}, {"status": "completed", "ended": 10}, {"status": "paused"}):
        root = stored.task("completed", ended=100)
        stored.task(**child, parent_id=root)
        stored.task("completed", ended=100, parent_id=root)
    stored.task("completed", ended=100, namespace="other")
    stored.task("paused", created=100)

    assert stored.call(prune, age=50).tasks == 0
    assert len(_left(stored)) == 10


def test_only_roots_of_the_chosen_statuses_go(stored):
    done, failed = stored.task("completed", ended=100), stored.task("permanently_failed", ended=100)

    assert stored.call(prune, age=50, statuses=["permanently_failed"]).workflows == 1
    assert _left(stored) == [done] != [failed]


def test_paused_workflows_go_when_asked_for(stored):
    paused = stored.task("paused", created=100)
    stored.task("paused", created=100, parent_id=paused)
    young = stored.task("paused", created=100, last_event_type="task_paused", last_event_at=stored.ago(10))
    mixed = stored.task("completed", ended=100)
    stored.task("paused", created=100, parent_id=mixed)
    held = stored.task("completed", ended=100)
    late = stored.task("paused", created=100, parent_id=held, last_event_at=stored.ago(10))

    gone = stored.call(prune, age=50, statuses=["completed", "paused"])
    assert (gone.workflows, gone.tasks) == (2, 4)
    assert _left(stored) == [young, held, late]


def test_a_workflow_larger_than_a_batch_goes_over_several_calls_root_last(stored):
    root = stored.task("completed", ended=100)
    child = stored.task("completed", ended=100, parent_id=root)
    for _ in range(5):
        stored.task("completed", ended=100, parent_id=child, root_id=root)
    after = stored.task("completed", ended=100)

    assert stored.call(prune, age=50, limit=3) == Pruned(0, 3, 0, 0, True)
    assert _left(stored) == [1, 2, 3, 4, after]
    assert stored.call(prune, age=50, limit=3) == Pruned(0, 3, 0, 0, True)
    assert _left(stored) == [root, after]
    assert stored.call(prune, age=50, limit=3) == Pruned(2, 2, 0, 0, False)


def test_a_batch_is_shared_out_by_whole_workflows():
    assert share([1, 5], [(1, 2)], 3) == Share([2], [1, 5], False)
    assert share([1, 5], [(1, 3), (1, 2), (5, 6)], 3) == Share([3, 2], [1], True)
    assert share([1, 5], [(1, 2), (5, 8), (5, 7), (5, 6)], 3) == Share([2], [1], True)
    assert share([1], [(1, 4), (1, 3), (1, 2)], 2) == Share([4, 3], [], True)
    assert share([1], [(1, 3), (1, 2)], 2) == Share([3, 2], [], True)
    assert share([1], [], 1) == Share([], [1], False)
    assert share([], [], 1) == Share([], [], False)


@pytest.mark.parametrize(
    "wrong", [{"age": -1}, {"age": 1, "limit": 0}, {"age": 1, "statuses": ["running"]}, {"age": 1, "statuses": ["x"]}]
)
def test_what_means_nothing_is_refused(stored, wrong):
    with pytest.raises(InvalidInput, match=list(wrong)[-1]):
        stored.call(prune, **wrong)


@pytest.mark.parametrize("stored", ["postgresql"], indirect=True)
def test_locked_workflows_are_skipped_and_their_roots_stay(stored):
    roots = [stored.task("completed", ended=100) for _ in range(2)]
    child = stored.task("completed", ended=100, parent_id=roots[1])
    with stored.database.engine.begin() as connection:
        locked = sa.select(tables.task_final).where(tables.task_final.c.id.in_([roots[0], child])).with_for_update()
        connection.execute(locked)
        assert stored.call(prune, age=50).tasks == 0
    assert stored.call(prune, age=50).tasks == 3


def test_delete_takes_whole_final_workflows_and_says_what_it_left(stored):
    root = stored.task("completed", tag="x", ended=0)
    stored.task("cancelled", parent_id=root, ended=0)
    open_root = stored.task("completed", tag="x")
    open_child = stored.task("ready", parent_id=open_root, tag="x")
    other = stored.task("completed", type="u")

    assert stored.call(delete, tag="x") == Deleted(tasks=2, left=2, more=False)
    assert _left(stored) == [open_root, open_child, other]
    assert stored.call(delete, type="u", status="completed") == Deleted(1, 0, False)
    assert stored.call(delete, status="pending") == Deleted(0, 1, False)
    assert stored.call(delete, type="missing") == Deleted(0, 0, False)
    with pytest.raises(InvalidInput, match="status"):
        stored.call(delete, status="failed")


def test_workers_and_ticks_of_the_past_are_forgotten(stored):
    stored.worker(1)
    stored.worker(2, status="reaped", ended_at=1)
    stored.worker(3, status="stopped", ended_at=1)
    stored.worker(4, status="stopped", ended_at=stored.ago(5))
    stored.task("running", worker_id=2)
    stored.put(
        tables.cron_task, id=1, namespace="default", name="n", source="code", type_id=1, schedule="@daily",
        payload="{}", missed_run_policy="Skip", concurrency_policy="Allow", pause_on_failure=True,
        decided_through=1, next_at=2,
    )  # fmt: skip
    for tick in (1, 2, 3):
        stored.put(tables.cron_tick, cron_id=1, tick=tick, through=tick, decision="skip", reason="paused", decided_at=tick)

    assert stored.call(forget) == Forgotten(workers=1, ticks=2)
    assert (stored.count(tables.worker), stored.count(tables.cron_tick)) == (3, 1)
    assert stored.call(forget, age=0) == Forgotten(workers=1, ticks=0)


def test_a_late_write_goes_when_its_task_is_gone_and_it_is_old(stored):
    kept = [stored.task("completed", ended=10), stored.task("ready")]
    gone = max(kept) + 1
    for number, (task_id, ago) in enumerate([(kept[0], 100), (kept[1], 100), (gone, 100), (gone + 1, 10)]):
        stored.put(tables.stale_write, task_id=task_id, fence=1, verb="fail", worker_id=number, at=stored.ago(ago), count=1)

    assert stored.call(prune, age=50) == Pruned(events=1)
    assert stored.count(tables.stale_write) == 3
    assert stored.call(forget, age=0) == Forgotten(events=1)
    assert stored.call(forget, age=0) == Forgotten()
    assert stored.count(tables.stale_write) == 2
