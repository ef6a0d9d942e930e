"""Events: the story of a task, in order, in words and in fields."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fibflow import App, NewTask, Outcome, PermanentError, Status, child
from fibflow.errors import InvalidInput
from fibflow.model import Event, EventType


def story(page):
    return [event.type.removeprefix("task_") for event in page.items]


def told(client, task_id, type, **filters):
    """The only event of a type."""
    (event,) = client.events(task_id, types=[type], **filters).items
    return event


def test_a_completed_task_tells_created_claimed_started_completed(workplace):
    app = App()
    app.add("greet", lambda ctx, payload: "hello")
    workplace.start(app)
    task_id = workplace.client.enqueue("greet", tag="blue")
    task = workplace.ended(task_id)

    page = workplace.client.events(task_id)
    created, claimed, started, completed = page.items
    assert story(page) == ["created", "claimed", "started", "completed"]
    assert (created.from_status, created.to_status) == (None, Status.PENDING)
    assert (created.metadata, created.time) == ({"type": "greet", "tag": "blue"}, task.created_at)
    assert (claimed.from_status, claimed.to_status, started.to_status) == (Status.PENDING, Status.RUNNING, Status.RUNNING)
    assert created.time < claimed.time <= started.time <= completed.time
    assert (completed.from_status, completed.to_status) == (Status.RUNNING, Status.COMPLETED)
    assert completed.time == task.finished_at


def test_failures_and_retries_are_told(hand):
    row = hand.take(max_attempts=3, backoff=5)
    hand.fail(row, "Traceback\nValueError: broken")
    hand.move_clock(6)
    row = hand.again(row.id)
    hand.fail(row, "too slow", outcome=Outcome.TIMEOUT)
    hand.move_clock(6)
    row = hand.again(row.id)
    hand.fail(row, "KeyError: 1")

    page = hand.client.events(row.id)
    assert story(page) == [
        *("created", "claimed", "started", "failed", "retry_scheduled"),
        *("claimed", "retry_started", "timed_out", "retry_scheduled"),
        *("claimed", "retry_started", "failed", "permanently_failed"),
    ]
    failed, scheduled, _, retried, timed_out, *_, last = page.items[3:]
    assert failed.metadata == {"error": "Traceback\nValueError: broken", "failures": 1}
    assert (failed.message, failed.to_status) == ("ValueError: broken", Status.PENDING)
    assert scheduled.metadata == {"failures": 1, "outcome": "failed"}
    assert (scheduled.from_status, scheduled.to_status) == (Status.RUNNING, Status.PENDING)
    assert (retried.metadata, retried.attempt) == ({"failures": 1}, 2)
    assert timed_out.metadata == {"error": "too slow", "failures": 2, "settled_by": hand.worker_id}
    assert last.metadata == {"error": "KeyError: 1", "failures": 3, "retry_exhausted": True}
    assert (last.from_status, last.to_status) == (Status.RUNNING, Status.PERMANENTLY_FAILED)


def test_an_error_that_is_not_retried_has_attempts_left(workplace):
    def give_up(ctx, payload):
        raise PermanentError("hopeless")

    app = App()
    app.add("give_up", give_up)
    workplace.start(app)
    task = workplace.outcome("give_up")
    event = told(workplace.client, task.id, "task_permanently_failed")
    assert event.metadata["retry_exhausted"] is False
    assert event.metadata["error"] == task.error and "hopeless" in task.error


def test_pausing_resuming_and_suspending_are_told(workplace):
    def ask(ctx, payload):
        return "done" if ctx.stage else ctx.suspend(reason="awaiting_approval", metadata={"amount": 5})

    app = App()
    app.add("ask", ask)
    client = workplace.client
    app.sync(workplace.database)
    task_id = client.enqueue("ask")
    client.pause(task_id)
    client.resume(task_id)
    workplace.start(app)
    workplace.becomes(task_id, Status.SUSPENDED)
    client.resume(task_id, reason="approved by Ann")
    workplace.ended(task_id)

    assert workplace.events(task_id) == [
        *("created", "paused", "resumed", "claimed", "started", "suspended"),
        *("resumed", "claimed", "started", "completed"),
    ]
    paused = told(client, task_id, "task_paused")
    assert (paused.from_status, paused.to_status, paused.message) == (Status.PENDING, Status.PAUSED, "the task was paused")
    suspended = told(client, task_id, "task_suspended")
    assert (suspended.message, suspended.metadata["amount"]) == ("awaiting_approval", 5)
    assert suspended.metadata["suspend_reason"] == "awaiting_approval"
    assert (suspended.from_status, suspended.to_status) == (Status.RUNNING, Status.SUSPENDED)
    by_hand, approved = client.events(task_id, types=["task_resumed"]).items
    assert (by_hand.from_status, by_hand.metadata) == (Status.PAUSED, {"resume_reason": "manual"})
    assert (approved.from_status, approved.metadata) == (Status.SUSPENDED, {"resume_reason": "approved by Ann"})


def test_spawning_and_the_parents_return_are_told(workplace):
    def parent(ctx, payload):
        return None if ctx.stage else ctx.spawn([child("part"), child("part")])

    app = App()
    app.add("parent", parent)
    app.add("part", lambda ctx, payload: None)
    workplace.start(app)
    task_id = workplace.outcome("parent").id
    client = workplace.client

    assert workplace.events(task_id) == [
        *("created", "claimed", "started", "subtasks_created", "suspended"),
        *("resumed", "claimed", "started", "completed"),
    ]
    assert told(client, task_id, "task_subtasks_created").metadata == {
        "child_count": 2,
        "child_task_ids": workplace.children(task_id),
        "child_task_names": ["part"],
        "generation": 1,
    }
    assert told(client, task_id, "task_suspended").metadata == {"suspend_reason": "awaiting_subtasks"}
    assert told(client, task_id, "task_resumed").metadata == {"resume_reason": "children_completed"}


def test_every_event_carries_its_fields(hand):
    root = hand.take(tag="x")
    hand.report(root, percent=5)
    hand.spawn(root, NewTask("other"))
    (row,) = hand.claim("other")
    hand.checkpoint(row, "half_way")
    hand.fail(row, "ValueError: broken", retryable=False)
    hand.client.pause(root.id)
    hand.client.cancel(root.id)
    events = hand.client.workflow_events(root.id).items

    for event in events:
        kind = "work" if event.task_id == root.id else "other"
        parent = None if event.task_id == root.id else root.id
        assert (event.root_id, event.parent_id, event.task_type) == (root.id, parent, kind)
        assert event.message and "\n" not in event.message, "one sentence each"
        assert event.time.tzinfo is not None
    of_child = [event for event in events if event.task_id == row.id]
    assert [(event.attempt, event.worker_id) for event in of_child] == [(0, None)] + 5 * [(1, hand.worker_id)]
    assert all(event.type in EventType and event.to_status in Status for event in events)
    assert {event.stage for event in events} == {0, 1}


def test_events_are_filtered_by_type_worker_attempt_stage_and_time(hand):
    client = hand.client
    root = hand.take()
    hand.fail(root)
    hand.move_clock(10)
    child_id = hand.spawn(hand.again(root.id), NewTask("other"))[0]
    hand.move_clock(10)
    first_worker = hand.worker_id
    hand.register()
    hand.complete(hand.again(child_id, "other"))
    hand.move_clock(10)
    hand.complete(hand.again(root.id))
    everything = client.workflow_events(root.id)
    own = [event for event in everything.items if event.task_id == root.id]
    start = own[4].time  # that of the second claim

    assert [(event.time, event.task_id) for event in everything.items] == sorted(
        (event.time, event.task_id) for event in everything.items
    )
    assert list(client.events(root.id).items) == own, "a task's events stand in the same order"
    cases: list[tuple[dict[str, Any], Callable[[Event], bool]]] = [
        ({"types": ["task_claimed", EventType.CREATED]}, lambda e: e.type in ("task_claimed", "task_created")),
        ({"types": "task_completed"}, lambda e: e.type == "task_completed"),
        ({"worker_id": first_worker}, lambda e: e.worker_id == first_worker),
        ({"attempt": 2}, lambda e: e.attempt == 2),
        ({"stage": 1}, lambda e: e.stage == 1),
        ({"after": start}, lambda e: e.time >= start),
        ({"before": start}, lambda e: e.time <= start),
        ({"before": start - timedelta(microseconds=1)}, lambda e: e.time < start),
        ({"attempt": 1, "worker_id": first_worker, "types": ["task_failed"]}, lambda e: e.type == "task_failed"),
        ({"stage": 7}, lambda e: False),
    ]
    for filters, matches in cases:
        expected = [event for event in everything.items if matches(event)]
        assert list(client.workflow_events(root.id, **filters).items) == expected, filters
        mine = [event for event in expected if event.task_id == root.id]
        assert list(client.events(root.id, **filters).items) == mine, filters

    of_children = client.workflow_events(root.id, parent_id=root.id)
    assert {event.task_id for event in of_children.items} == {child_id}
    page = client.workflow_events(root.id, order="desc", limit=3, offset=1)
    assert list(page.items) == list(everything.items)[::-1][1:4]
    assert (page.total, page.has_more) == (everything.total, True)
    with pytest.raises(InvalidInput, match="task_exploded"):
        client.events(root.id, types=["task_exploded"])
    with pytest.raises(InvalidInput, match="types: 5 is no list; name the types of events"):
        client.events(root.id, types=5)


def test_the_last_event_is_on_the_task(hand):
    client = hand.client

    def agrees(task_id):
        task, last = client.get(task_id), client.events(task_id, order="desc", limit=1).items[0]
        assert (task.last_event_type, task.last_event_time) == (last.type, last.time)
        return str(last.type)

    task_id = client.enqueue("work")
    assert agrees(task_id) == "task_created"
    client.pause(task_id)
    assert agrees(task_id) == "task_paused"
    client.resume(task_id)
    assert agrees(task_id) == "task_resumed"
    row = hand.again(task_id)
    assert agrees(task_id) == "task_started"
    hand.report(row, percent=5)
    assert agrees(task_id) == "task_progress"
    hand.suspend(row)
    assert agrees(task_id) == "task_suspended"
    client.resume(task_id)
    hand.complete(hand.again(task_id))
    assert agrees(task_id) == "task_completed"
    client.redrive(task_id)
    assert agrees(task_id) == "task_redriven"
    hand.fail(hand.again(task_id))
    assert agrees(task_id) == "task_retry_scheduled"
    hand.again(task_id)
    assert agrees(task_id) == "task_retry_started"
    client.cancel(task_id)
    assert agrees(task_id) == "task_cancelled"
