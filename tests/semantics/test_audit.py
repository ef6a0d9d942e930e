"""Audits and summaries: a task whole, a workflow whole, and a workflow in figures.

The rows are put there by the tests, so that every instant is known exactly; times are seconds before now.
"""

from datetime import timedelta

import pytest

from fibflow import Client, NewTask, Outcome, Status
from fibflow.errors import InvalidInput
from fibflow.store import tables
from fibflow.store.clock import to_datetime


@pytest.fixture
def summary(stored):
    """Sum a workflow up."""
    return Client(stored.database).workflow_summary


def test_an_audit_holds_tasks_events_and_attempts(hand):
    client = hand.client
    root = hand.take()
    hand.fail(root)
    (child,) = hand.spawn(hand.again(root.id), NewTask("other"))
    hand.complete(hand.again(child, "other"))

    audit = client.audit(root.id)
    assert audit.task == client.get(root.id)
    assert (audit.events, audit.attempts) == (client.events(root.id), client.attempts(root.id))
    assert (audit.events.total, audit.attempts.total) == (10, 2)
    last = client.audit(root.id, limit=1, order="desc")
    assert [event.type for event in last.events.items] == ["task_resumed"] and last.events.has_more
    assert [attempt.attempt for attempt in last.attempts.items] == [2]

    whole = client.workflow_audit(root.id)
    assert whole.task == client.get(root.id)
    assert [task.id for task in whole.tasks.items] == [root.id, child]
    assert whole.events == client.workflow_events(root.id)
    assert {event.task_id for event in whole.events.items} == {root.id, child}
    part = client.workflow_audit(root.id, limit=1)
    assert (part.tasks.total, len(part.tasks.items), len(part.events.items)) == (2, 1, 1)

    for verb in (client.workflow_audit, client.workflow_summary, client.workflow_events, client.workflow_attempts):
        with pytest.raises(InvalidInput, match=f"root_id: {child} is no root; the root of its workflow is {root.id}"):
            verb(child)


def test_each_part_of_an_audit_may_be_filtered_and_paged_by_itself(hand):
    client = hand.client
    root = hand.take()
    hand.fail(root)
    (child,) = hand.spawn(hand.again(root.id), NewTask("other"))
    hand.complete(hand.again(child, "other"))

    audit = client.audit(root.id, events={"types": ["task_failed"], "limit": 5}, attempts={"outcome": "suspended"}, limit=None)
    assert [event.type for event in audit.events.items] == ["task_failed"]
    assert [attempt.attempt for attempt in audit.attempts.items] == [2]
    assert (audit.events.limit, audit.attempts.limit) == (5, None)

    ended = {"types": "task_completed"}
    whole = client.workflow_audit(root.id, tasks={"offset": 1}, events=ended, order="desc")
    assert (whole.tasks.total, [task.id for task in whole.tasks.items]) == (2, [root.id])
    assert [event.task_id for event in whole.events.items] == [child]
    assert client.workflow_audit(root.id, tasks={"type": "other"}).tasks.total == 1

    with pytest.raises(InvalidInput, match="events: 'task_failed' is no dict"):
        client.audit(root.id, events="task_failed")
    with pytest.raises(TypeError, match="wrong"):
        client.workflow_audit(root.id, tasks={"wrong": 1})


def test_a_summary_counts_statuses_outcomes_types_and_stages(stored, summary):
    root = stored.task("suspended", attempt=3, stage=1, failures=1, spawned=3, children=3, open_children=1)
    stored.attempt(root, 1, "failed", became="pending", worker_id=4)
    stored.attempt(root, 2, "suspended", worker_id=2)
    stored.attempt(root, 3, "suspended", worker_id=2, stage=1)
    child = stored.task("completed", parent_id=root, attempt=1, type="u")
    stored.attempt(child, 1, worker_id=9)
    stored.task("ready", parent_id=root, type="u")
    grandchild = stored.task("running", parent_id=child, root_id=root, type="a", worker_id=7)
    stored.event(grandchild, "task_checkpoint", 1, 3, 3, worker_id=7)
    stored.event(root, "task_checkpoint", 1, 3, 15, worker_id=4)
    stored.event(root, "task_progress", 1, 3, 14, worker_id=4)
    stored.put(tables.stale_write, task_id=child, fence=1, verb="fail", worker_id=3, at=stored.ago(1), count=2)
    stored.task("completed", type="elsewhere")

    found = summary(root)
    assert (found.root.id, found.root.type, found.root.status) == (root, "t", Status.SUSPENDED)
    assert (found.tasks, found.attempts, found.max_attempt) == (4, 5, 3)
    assert (found.events, found.checkpoints) == (Client(stored.database).workflow_events(root).total, 2)
    counts = (found.by_status, found.by_outcome, found.by_type, found.by_stage)
    assert [list(count.items()) for count in counts] == [
        [(Status.COMPLETED, 1), (Status.PENDING, 1), (Status.RUNNING, 1), (Status.SUSPENDED, 1)],
        [(Outcome.COMPLETED, 1), (Outcome.FAILED, 1), (Outcome.SUSPENDED, 2)],
        [("a", 1), ("t", 1), ("u", 2)],
        [(0, 3), (1, 1)],
    ], "by key"
    assert found.workers == (2, 3, 4, 7, 9), "all that attempts and events name"


def test_a_summary_tells_timing_stages_slowest_and_failed(stored, summary):
    root = stored.task("suspended", created=100, attempt=2, stage=1, spawned=2, children=9, open_children=3)
    stored.attempt(root, 1, "suspended", started=90, ended=89.75)
    stored.attempt(root, 2, "suspended", started=80, ended=79.999999, stage=1)
    durations = [5.0, 1.0, 1.0, 0.5, 0.000001]
    done = [stored.task("completed", parent_id=root, attempt=1) for _ in durations]
    for task, duration in zip(done, durations, strict=True):
        stored.attempt(task, 1, started=50, ended=50 - duration)
    bad = stored.task("permanently_failed", parent_id=root, attempt=1, failures=1, error="ValueError: broken")
    stored.attempt(bad, 1, "failed", became="permanently_failed", started=40, ended=20)
    retrying = stored.task("scheduled", parent_id=root, attempt=1, failures=1, last_outcome="timeout", error="too slow")
    held = stored.task("paused", parent_id=root)
    stored.task("running", parent_id=root, failures=1, attempt=2, last_outcome="failed")
    stored.task("cancelled", parent_id=root, error="no longer wanted")

    found = summary(root)
    timing = found.timing
    assert timing.created_at == to_datetime(stored.ago(100))
    assert (timing.first_started_at, timing.last_ended_at) == (to_datetime(stored.ago(90)), to_datetime(stored.ago(20)))
    assert timing.last_event_time == to_datetime(stored.ago(5)), "the claim of the one that runs"
    assert timing.duration == 80.0
    stages = [(one.attempt.attempt, one.attempt.stage, one.duration) for one in found.stages]
    assert stages == [(1, 0, 0.25), (2, 1, 0.000001)], "to the microsecond"
    assert [(one.id, one.type, one.status, one.error) for one in found.failed] == [
        (bad, "t", Status.PERMANENTLY_FAILED, "ValueError: broken"),
        (retrying, "t", Status.PENDING, "too slow"),
        (held, "t", Status.PAUSED, None),
    ]
    assert [(one.attempt.task_id, one.duration) for one in found.slowest] == [
        (bad, 20.0), (done[0], 5.0), (done[1], 1.0), (done[2], 1.0), (done[3], 0.5),
    ], "ties go to the earlier start, then to the lower id"  # fmt: skip

    alone = stored.task("running", attempt=2, failures=1)
    stored.attempt(alone, 1, "failed", became="pending", started=50, ended=70)  # a clock that stepped back
    second = summary(alone)
    assert [(one.attempt.attempt, one.duration) for one in second.slowest] == [(1, 0.0), (2, None)], "open ones last"
    assert second.timing.duration == 30.0


def test_the_critical_path_follows_the_slowest_branch(stored, summary):
    root = stored.task("suspended", attempt=1, spawned=1, children=2, open_children=2)
    stored.attempt(root, 1, "suspended", started=90, ended=88)
    quick = stored.task("completed", parent_id=root, attempt=1)
    stored.attempt(quick, 1, started=80, ended=70)
    deep = stored.task("suspended", parent_id=root, attempt=2, stage=1, type="u", spawned=2, children=2, open_children=2)
    stored.attempt(deep, 1, "suspended", started=80, ended=79)
    stored.attempt(deep, 2, "suspended", started=78, ended=74, stage=1)
    leaves = [stored.task("completed", parent_id=deep, root_id=root, attempt=2) for _ in range(3)]
    stored.attempt(leaves[0], 1, started=60, ended=55)
    for leaf in leaves[1:]:
        stored.attempt(leaf, 1, "failed", became="pending", started=60, ended=53)
        stored.attempt(leaf, 2, started=50, ended=43, failures=1)

    path = summary(root).critical_path
    assert [step.task.id for step in path.steps] == [root, deep, leaves[1]], "ties go to the lower id"
    assert (path.duration, [step.duration for step in path.steps]) == (13.0, [2.0, 4.0, 7.0])
    first, second, third = path.steps
    assert (second.task.type, second.task.status, second.task.stage) == ("u", Status.SUSPENDED, 1)
    assert (second.attempt.attempt, second.attempt.outcome) == (2, "suspended"), "a task's longest attempt"
    assert (third.attempt.attempt, third.attempt.outcome) == (1, "failed"), "of equal ones, the one that ended earlier"
    assert first.attempt.ended_at - first.attempt.started_at == timedelta(seconds=2)


def test_a_summary_of_a_waiting_workflow_is_whole(hand):
    task_id = hand.client.enqueue("work")
    found = hand.client.workflow_summary(task_id)

    assert (found.tasks, found.attempts, found.max_attempt, found.checkpoints, found.events) == (1, 0, 0, 0, 1)
    assert (found.by_status, found.by_outcome) == ({Status.PENDING: 1}, {})
    assert (found.workers, found.stages, found.slowest, found.failed) == ((), (), (), ())
    timing = found.timing
    assert (timing.first_started_at, timing.last_ended_at, timing.duration) == (None, None, None)
    assert timing.created_at == timing.last_event_time == hand.client.get(task_id).created_at
    (step,) = found.critical_path.steps
    assert (step.task.id, step.attempt, step.duration, found.critical_path.duration) == (task_id, None, None, 0.0)
