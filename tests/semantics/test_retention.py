"""Retention and deletion: whole workflows go, when they are old or asked for, and nothing vanishes under anybody."""

import time
from typing import Any

import pytest
import sqlalchemy as sa

from fibflow import App, NewTask, Status
from fibflow.errors import InvalidInput, NotFound
from fibflow.store import tables
from fibflow.store.retention import A_DAY, Pruned
from fibflow_worker.runtime import State
from fibflow_worker.settings import Settings
from fix_semantics import serving, until

TOLD_OF = (tables.attempt, tables.event, tables.stale_write)
READINGS = ("get", "events", "attempts", "audit", "children", "workflow_events", "workflow_attempts", "workflow_audit")


def finished(hand, **options):
    """A task that completed."""
    row = hand.take(**options)
    hand.complete(row)
    return row.id


def family(hand):
    """A parent and a child that completed, with a report and a late write; their ids."""
    root = hand.take(tag="family")
    hand.report(root, percent=5)
    (child,) = hand.spawn(root, NewTask("other", tag="family"))
    hand.complete(hand.again(child, "other"))
    hand.complete(hand.again(root.id))
    with pytest.raises(AssertionError, match="LeaseLost"):
        hand.fail(root)
    return root.id, child


def rows(hand, *tables_):
    return sum(hand.execute(sa.select(sa.func.count()).select_from(table)) for table in tables_)


def left(hand):
    return [task.id for task in hand.client.tasks(limit=None).items]


# ── pruning ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_old_final_workflow_is_pruned_as_a_whole(hand):
    root, child = family(hand)
    never_ran = hand.client.enqueue("work")
    hand.client.cancel(never_ran)
    assert rows(hand, *TOLD_OF) > 0
    hand.move_clock(A_DAY - 60)
    assert hand.client.prune() == Pruned()
    hand.move_clock(120)

    assert hand.client.prune().tasks == 3, "one that never ran ends, too"
    assert left(hand) == []
    assert rows(hand, tables.task, tables.task_final, *TOLD_OF) == 0
    assert hand.client.statistics() == []
    for task_id in (root, child, never_ran):
        for reading in (*READINGS, "workflow_summary"):
            with pytest.raises(NotFound, match=f"there is no task {task_id}"):
                getattr(hand.client, reading)(task_id)


def test_young_open_and_paused_tasks_are_kept_unless_asked(hand):
    hand.client.pause(paused := hand.client.enqueue("work"))
    hand.suspend(suspended := hand.take())
    running = hand.take()
    pending = hand.client.enqueue("other", delay=30 * A_DAY)
    awaited = hand.take()
    first, second = hand.spawn(awaited, NewTask("work"), NewTask("work"))
    hand.complete(hand.again(first))
    hand.complete(hand.again(second))
    hand.claim()  # the parent, which goes on and on
    old = family(hand)
    hand.move_clock(2 * A_DAY)
    young = finished(hand)

    assert hand.client.prune().workflows == 1, "only the family is old and final"
    assert not {*old} & {*left(hand)}
    kept = [paused, suspended.id, running.id, pending, awaited.id, first, second, young]
    assert left(hand) == sorted(kept), "a child's end keeps its whole workflow"
    assert hand.client.prune(statuses=["paused", "completed"]).tasks == 1
    assert paused not in left(hand)
    hand.move_clock(60 * A_DAY)
    hand.client.prune(statuses=["paused", "completed", "permanently_failed", "cancelled"])
    assert left(hand) == sorted([suspended.id, running.id, pending, awaited.id, first, second])


NO_STATUSES: list[Any] = [[], (), ["running"], ["pending"], ["suspended"], ["failed"], ["done"], [5], "completed", 5, None]
NO_AGES: list[Any] = [0, -1, "day", True, float("nan"), float("inf")]


def test_a_retention_that_makes_no_sense_is_refused(hand):
    finished(hand)
    hand.move_clock(2 * A_DAY)
    for statuses in NO_STATUSES:
        with pytest.raises(InvalidInput, match=r"^statuses: "):
            hand.client.prune(statuses=statuses)
        with pytest.raises(InvalidInput, match=r"^retention_statuses: "):
            Settings(retention_statuses=statuses)
    for age in NO_AGES:
        with pytest.raises(InvalidInput, match=r"^age: "):
            hand.client.prune(age=age)
        with pytest.raises(InvalidInput, match=r"^retention_age: "):
            Settings(retention_age=age)
    assert hand.client.tasks().total == 1
    assert Settings(retention_age=None).retention_age is None, "which switches it off"


def test_pruning_by_hand_overrides_the_policy(hand):
    family(hand)
    hand.fail(failed := hand.take(), retryable=False)
    hand.move_clock(100)
    assert hand.client.prune(age=3600) == Pruned()
    assert hand.client.prune(age=50, statuses=["permanently_failed"]) == Pruned(workflows=1, tasks=1, attempts=1, events=0)
    assert left(hand) != [] and failed.id not in left(hand)
    stored = rows(hand, tables.event, tables.stale_write)
    assert hand.client.prune(age=50) == Pruned(workflows=1, tasks=2, attempts=3, events=stored)
    assert left(hand) == []


def test_pruning_goes_on_in_batches_to_the_end(hand):
    ids = hand.client.enqueue_many([NewTask("work")] * 25)
    for task_id in ids:
        hand.client.cancel(task_id)
    hand.pod_id = "pod-0"
    for _ in range(3):
        hand.register()  # each ends the one before
    idle = hand.worker_id
    hand.move_clock(2 * A_DAY)

    pruned = hand.client.prune(limit=10)
    assert (pruned.tasks, pruned.more) == (25, False)
    assert left(hand) == []
    assert pruned.workers == 2, "ended workers go with the rest"
    assert idle in [worker.id for worker in hand.client.workers()]
    assert hand.client.prune() == Pruned()


def test_what_is_written_late_for_a_pruned_task_is_pruned_in_its_turn(hand):
    finished(hand)
    lost = hand.take()
    hand.client.cancel(lost.id)
    hand.move_clock(2 * A_DAY)
    assert hand.client.prune().tasks == 2
    with pytest.raises(AssertionError, match="LeaseLost"):
        hand.complete(lost)
    assert rows(hand, tables.stale_write) == 1
    assert hand.client.prune() == Pruned(), "it is young"
    hand.move_clock(2 * A_DAY)
    assert hand.client.prune() == Pruned(events=1)
    assert rows(hand, *TOLD_OF) == 0


def test_the_first_sweep_comes_an_interval_after_the_start(workplace):
    app = App()
    app.add("ok", lambda ctx, payload: None)
    app.sync(workplace.database)
    client = workplace.client
    client.cancel(old := client.enqueue("ok"))
    copy_final_task(workplace.database, old, 1200)
    workplace.move_clock(100)
    assert Settings().retention_interval == 300

    policy = {"retention_age": 50, "retention_statuses": ("cancelled",), "retention_interval": 1}
    started = time.monotonic()
    workplace.start(app, **policy)
    done = workplace.outcome("ok")
    assert client.get(old), "a worker that starts does not sweep at once"
    assert client.delete(type="nobody").tasks == 0 and client.prune(age=200).tasks == 0, "by hand nothing goes, nor is put off"
    until(lambda: client.tasks(status="cancelled").total == 0)
    assert time.monotonic() - started >= 0.9
    assert client.get(done.id).status is Status.COMPLETED, "other statuses stay"


def test_a_worker_that_keeps_its_history_for_ever_works(workplace):
    app = serving(work=lambda ctx: "done")
    app.sync(workplace.database)
    workplace.client.cancel(old := workplace.client.enqueue("work"))
    workplace.move_clock(2 * A_DAY)
    worker = workplace.start(app, retention_age=None, retention_interval=1)
    assert workplace.outcome("work", delay=1.2).result == "done", "more than an interval later"
    assert workplace.client.get(old)
    assert worker.state is State.RUNNING


def copy_final_task(database, task_id, count):
    """As many more tasks of the past, with ids below zero."""
    columns = [column for column in tables.task_final.c if column.name != "id"]
    with database.engine.begin() as connection:
        for number in range(1, count + 1):
            copied = sa.select(sa.literal(-number), *columns).where(tables.task_final.c.id == task_id)
            into = sa.insert(tables.task_final).from_select(["id", *(column.name for column in columns)], copied)
            connection.execute(into)


# ── deleting ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_delete_removes_matching_final_workflows_and_tells_what_it_left(hand):
    root, child = family(hand)
    awaiting = hand.take(tag="family")
    (ended, opened) = hand.spawn(awaiting, NewTask("work", tag="family"), NewTask("other", tag="family"))
    hand.complete(hand.again(ended))
    running = hand.take(tag="family")
    blue, red = finished(hand, tag="blue"), finished(hand, tag="red")
    hand.fail(failed := hand.take(tag="blue"), retryable=False)

    assert hand.client.delete(tag="family", status="running").left == 1, "nothing vanishes under a handler"
    gone = hand.client.delete(tag="family")
    assert (gone.tasks, gone.left, gone.more) == (2, 4, False), "the open task, and the workflow that is open"
    assert not {root, child} & {*left(hand)}
    assert {awaiting.id, ended, opened, running.id} <= {*left(hand)}, "nor under a parent"
    assert hand.client.delete(type="other").tasks == 0, "a child does not go without its parent"
    gone = hand.client.delete(tag="blue", status="permanently_failed", type="work")
    assert (gone.tasks, gone.left) == (1, 0), "all filters must match"
    assert failed.id not in left(hand) and blue in left(hand)
    with pytest.raises(TypeError, match="name"):
        hand.client.delete(name="work")
    assert {blue, red} <= {*left(hand)}, "a misspelt filter deletes nothing"

    gone = hand.client.delete()
    assert (gone.tasks, gone.left) == (2, 4), "without a filter all that is final"
    parents = {task.parent_id for task in hand.client.tasks(limit=None).items} - {None}
    assert parents <= {*left(hand)}, "no orphans"
    of_the_open = {awaiting.id, ended, opened, running.id}
    for table in TOLD_OF:
        gone_with_them = sa.select(sa.func.count()).select_from(table).where(table.c.task_id.not_in(of_the_open))
        assert hand.execute(gone_with_them) == 0, "what was told of them went along"
