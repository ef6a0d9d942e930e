"""The audit: stored and derived events are one ordered story."""

import pytest

from fibflow.errors import InvalidInput, NotFound
from fibflow.model import EventType, Status
from fibflow.store import tables
from fibflow.store.audit import events, workflow_events
from fibflow.store.clock import to_datetime
from fibflow.store.views import audit, workflow_audit


def _story(page):
    return [(event.attempt, event.type.value.removeprefix("task_")) for event in page.items]


@pytest.fixture
def failed(stored):
    """Paused and resumed before its first attempt, which failed; the second timed out for good; a write came late."""
    task = stored.task("permanently_failed", attempt=2, failures=2)
    stored.attempt(task, 1, "failed", became="pending", error="Traceback\n  at x\nValueError: no\n", started=80, ended=70)
    stored.attempt(task, 2, "timeout", became="permanently_failed", failures=1, error="late", started=60, ended=50, worker_id=2)
    stored.event(task, "task_resumed", 0, 6, 85, from_status="paused", to_status="pending", message="go")
    stored.event(task, "task_progress", 2, 3, 55, metadata='{"percent": 5}', worker_id=2, stage=0)
    stored.event(task, "task_checkpoint", 1, 3, 75, message="two\nlines")
    stored.put(tables.stale_write, task_id=task, fence=1, verb="fail", worker_id=1, at=stored.ago(65), count=3)
    stored.put(tables.stale_write, task_id=task, fence=1, verb="complete", worker_id=1, at=stored.ago(66), count=1)
    return task


FAILED = [
    (0, "created"),
    (0, "resumed"),
    (1, "claimed"),
    (1, "started"),
    (1, "checkpoint"),
    (1, "failed"),
    (1, "retry_scheduled"),
    (1, "stale_write_rejected"),
    (1, "stale_write_rejected"),
    (2, "claimed"),
    (2, "retry_started"),
    (2, "progress"),
    (2, "timed_out"),
    (2, "permanently_failed"),
]


def test_a_task_that_failed_for_good_tells_all_of_it(stored, failed):
    page = stored.call(events, failed)
    told = {(event.attempt, event.type): event for event in page.items}

    assert _story(page) == FAILED
    assert page.total == len(FAILED)
    assert all((event.task_id, event.root_id, event.task_type) == (failed, failed, "t") for event in page.items)
    created = told[0, EventType.CREATED]
    assert (created.from_status, created.to_status, created.time) == (None, "pending", to_datetime(stored.ago(100)))
    lost = told[1, EventType.FAILED]
    assert (lost.message, lost.to_status, lost.time) == ("ValueError: no", Status.PENDING, to_datetime(stored.ago(70)))
    last = told[2, EventType.PERMANENTLY_FAILED]
    assert (last.from_status, last.to_status, last.worker_id) == (Status.RUNNING, Status.PERMANENTLY_FAILED, 2)
    assert told[2, EventType.PROGRESS].metadata == {"percent": 5}
    assert told[1, EventType.CHECKPOINT].message == "two\nlines"
    refused = [event.metadata for event in page.items if event.type is EventType.STALE_WRITE_REJECTED]
    assert refused == [
        {"fence": 1, "verb": "complete", "count": 1},
        {"fence": 1, "verb": "fail", "count": 3},
    ]


def test_events_are_filtered_and_paged(stored, failed):
    def story(**filters):
        return _story(stored.call(events, failed, **filters))

    assert story(order="desc", limit=3, offset=1) == FAILED[::-1][1:4]
    assert story(types=["task_claimed", EventType.CREATED]) == [(0, "created"), (1, "claimed"), (2, "claimed")]
    assert story(types="task_created") == [(0, "created")]
    assert story(types=[]) == []
    assert story(worker_id=2) == [event for event in FAILED if event[0] == 2]
    assert story(attempt=1, stage=0) == [event for event in FAILED if event[0] == 1]
    assert story(stage=1) == []
    assert story(after=to_datetime(stored.ago(50))) == FAILED[-2:]
    assert story(before=to_datetime(stored.ago(85))) == FAILED[:2]
    with pytest.raises(InvalidInput, match="types"):
        story(types=["task_exploded"])


def test_an_interruption_is_told_by_its_stored_event_and_ends_the_task_when_the_budget_is_gone(stored):
    task = stored.task("permanently_failed", attempt=2, interruptions=2)
    for number, became in ((1, "pending"), (2, "permanently_failed")):
        stored.attempt(task, number, "interrupted", became=became)
        stored.event(task, "task_recovered", number, 4, 10)

    assert _story(stored.call(events, task)) == [
        (0, "created"),
        (1, "claimed"),
        (1, "started"),
        (1, "recovered"),
        (2, "claimed"),
        (2, "started"),
        (2, "recovered"),
        (2, "permanently_failed"),
    ]


def test_a_running_task_tells_of_its_open_attempt(stored):
    task = stored.task("running", failures=1, attempt=2, last_event_type="task_started")

    found = stored.call(audit, task)
    assert _story(found.events) == [(0, "created"), (2, "claimed"), (2, "retry_started")]
    assert found.task.last_event_type is found.events.items[-1].type
    assert [(one.attempt, one.outcome) for one in found.attempts.items] == [(2, None)]


def test_a_workflow_is_told_by_time(stored):
    root = stored.task("completed", created=100, attempt=2, ended=20)
    child = stored.task("completed", created=80, parent_id=root, attempt=1, ended=50)
    stored.task("completed", attempt=1)
    stored.attempt(root, 1, "suspended", started=90, ended=80)
    stored.event(root, "task_suspended", 1, 4, 80)
    stored.attempt(child, 1, started=60, ended=50)
    stored.attempt(root, 2, started=30, ended=20, stage=1)

    found = stored.call(workflow_events, root)
    assert [(event.task_id - root, event.type.value.removeprefix("task_")) for event in found.items] == [
        (0, "created"),
        (0, "claimed"),
        (0, "started"),
        (0, "suspended"),
        (1, "created"),
        (1, "claimed"),
        (1, "started"),
        (1, "completed"),
        (0, "claimed"),
        (0, "started"),
        (0, "completed"),
    ]
    assert {(event.root_id, event.parent_id) for event in found.items} == {(root, None), (root, root)}
    assert list(stored.call(workflow_events, root, order="desc").items) == list(found.items)[::-1]
    whole = stored.call(workflow_audit, root, limit=2)
    assert (whole.task.id, whole.tasks.total, whole.events.total, len(whole.events.items)) == (root, 2, 11, 2)
    with pytest.raises(InvalidInput, match=f"the root of its workflow is {root}"):
        stored.call(workflow_events, child)
    with pytest.raises(NotFound):
        stored.call(audit, 99)
