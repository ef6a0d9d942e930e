"""Queries: one task, many tasks by filter and page, and how many there are."""

from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

import pytest

from fibflow import Client, NewTask, Status
from fibflow.errors import InvalidInput
from fibflow.model import FINAL, Outcome, Task
from fibflow.store.tasktypes import Declaration

LISTS = ("tasks", "events", "workflow_events", "attempts", "workflow_attempts")


def ids(page):
    return [task.id for task in page.items]


def test_a_task_is_read_with_all_its_fields(hand):
    client = hand.client
    plain = client.get(client.enqueue("work"))
    assert (plain.payload, plain.tag, plain.status, plain.stage, plain.attempt) == ({}, None, Status.PENDING, 0, 0)
    assert (plain.id, plain.root_id, plain.parent_id, plain.generation) == (plain.id, plain.id, None, None)
    assert (plain.type, plain.namespace, plain.run_at) == ("work", "default", plain.created_at)
    client.cancel(plain.id)

    row = hand.take(payload={"n": 1}, tag="blue", timeout=30, priority=5)
    running = client.get(row.id)
    assert (running.payload, running.tag, running.worker_id) == ({"n": 1}, "blue", hand.worker_id)
    assert running.deadline_at == running.started_at + timedelta(seconds=30)
    hand.report(row, text="half way", percent=50, stage_name="copying")
    children = hand.spawn(row, NewTask("other", {"k": 1}), NewTask("other", {"k": 2}))

    hand.complete(hand.claim("other")[0], '{"k": 1}')
    waiting = client.get(row.id)
    assert (waiting.status, waiting.result) == (Status.SUSPENDED, None), "a result is what the handler returned"
    assert (waiting.children, waiting.open_children) == (2, 1)
    assert (waiting.worker_id, waiting.deadline_at) == (None, None), "what waits has no owner"
    assert (waiting.current_stage_name, waiting.progress_text, waiting.progress_percent) == ("copying", "half way", 50)
    of_parent = client.tasks(parent_id=row.id)
    assert ids(of_parent) == children
    assert [child.result for child in of_parent.items] == [{"k": 1}, None], "each child shows its own"
    assert (of_parent.items[0].root_id, of_parent.items[0].generation) == (row.id, 1)

    hand.complete(hand.claim("other")[0])
    hand.complete(hand.again(row.id), '{"sum": 3}')
    done = client.get(row.id)
    assert (done.status, done.result, done.stage, done.attempt) == (Status.COMPLETED, {"sum": 3}, 1, 2)
    assert done.worker_id == hand.worker_id, "the one that ran it last"
    assert done.finished_at == done.last_event_time
    assert (done.last_outcome, done.failures, done.interruptions, done.error) == ("completed", 0, 0, None)
    for task in (plain, running, waiting, done):
        for field in fields(Task):
            assert not isinstance(getattr(task, field.name), datetime) or getattr(task, field.name).tzinfo


def test_tasks_are_filtered_by_each_field_and_all_of_them(database_url, hand):
    client = hand.client
    root = hand.take(tag="blue")
    (child,) = hand.spawn(root, NewTask("other", tag="red"))
    hand.move_clock(100)
    running = hand.take(tag="blue")
    hand.fail(running)
    hand.again(running.id)
    asked = hand.take(tag="blue")
    hand.suspend(asked, "awaiting_approval")
    done = hand.take()
    hand.complete(done)
    hand.client.pause_type("work")
    due = client.enqueue("work")
    start = client.get(running.id).created_at
    everything = [root.id, child, running.id, asked.id, done.id, due]

    for filters, expected in expected_of(root.id, child, running.id, asked.id, done.id, due, hand.worker_id, start):
        page = client.tasks(**filters)
        assert (ids(page), page.total, page.has_more) == (expected, len(expected), False), filters
    assert ids(client.tasks()) == everything, "a filter that is not given is not applied"
    assert ids(client.tasks(type=None, tag=None)) == everything, "nor is None"

    with Client(database_url, namespace="elsewhere") as elsewhere:
        elsewhere.declare_types([Declaration("work")])
        theirs = elsewhere.enqueue("work")
        assert ids(elsewhere.tasks()) == [theirs]
        assert ids(client.tasks(namespace="elsewhere")) == [theirs]
        assert client.tasks().total == len(everything)


def expected_of(root, child, running, asked, done, due, worker_id, start):
    earlier = start - timedelta(microseconds=1)
    return [
        ({"type": "other"}, [child]),
        ({"type": "nobody"}, []),
        ({"status": "running"}, [running]),
        ({"status": Status.SUSPENDED}, [root, asked]),
        ({"status": Status.PENDING}, [child, due]),
        ({"status": "completed"}, [done]),
        ({"last_outcome": "failed"}, [running]),
        ({"last_outcome": Outcome.SUSPENDED}, [root, asked]),
        ({"tag": "blue"}, [root, running, asked]),
        ({"worker_id": worker_id}, [running, done]),
        ({"parent_id": root}, [child]),
        ({"root_id": root}, [root, child]),
        ({"root_id": child}, [child]),
        ({"suspend_reason": "awaiting_approval"}, [asked]),
        ({"created_after": start}, [running, asked, done, due]),
        ({"created_before": start}, [root, child, running]),
        ({"created_before": earlier}, [root, child]),
        ({"created_after": start, "created_before": start}, [running]),
        ({"tag": "blue", "status": "suspended", "type": "work"}, [root, asked]),
        ({"tag": "blue", "status": "suspended", "created_after": start}, [asked]),
        ({"tag": "red", "status": "suspended"}, []),
        ({"namespace": "default", "tag": "red"}, [child]),
        ({"namespace": "nowhere"}, []),
    ]


def test_pages_tell_total_and_more_in_order_of_creation(hand):
    client = hand.client
    made = [client.enqueue("work") for _ in range(105)]
    for task_id in made[::3]:
        client.cancel(task_id)  # hot and final tasks stand in one list

    page = client.tasks()
    assert (ids(page), page.total, page.limit, page.offset, page.has_more) == (made[:100], 105, 100, 0, True)
    rest = client.tasks(offset=100)
    assert (ids(rest), rest.total, rest.offset, rest.has_more) == (made[100:], 105, 100, False)
    part = client.tasks(limit=7, offset=50, order="desc")
    assert (ids(part), part.has_more) == (made[::-1][50:57], True)
    whole = client.tasks(limit=None)
    assert (ids(whole), whole.limit, whole.has_more) == (made, None, False)
    assert ids(client.tasks(limit=None, offset=103)) == made[103:], "an offset always counts"
    assert ids(client.tasks(offset=200)) == []
    created = [task.created_at for task in whole.items]
    assert created == sorted(created)
    cancelled = client.tasks(status="cancelled", limit=5, offset=5)
    assert (ids(cancelled), cancelled.total) == (made[::3][5:10], 35)


WRONG_PAGES: list[tuple[str, object]] = [
    ("limit", 0), ("limit", -1), ("limit", "10"), ("limit", 1.5), ("limit", True), ("limit", 10_001),
    ("offset", -1), ("offset", "1"), ("offset", None), ("offset", 1 << 63), ("order", "up"), ("order", None), ("order", ""),
]  # fmt: skip
WRONG_FILTERS: list[tuple[str, Any]] = [
    *(("status", value) for value in ("failed", "timeout", "done", "", 5)),
    *(("last_outcome", value) for value in ("paused", "pending", "")),
    *((name, value) for name in ("type", "tag", "suspend_reason", "cron", "namespace") for value in ("", "  ", 5, "a\x00")),
    *((name, value) for name in ("worker_id", "parent_id", "root_id") for value in ("1", -1, 1.5, True, 1 << 63)),
    *((name, value) for name in ("created_after", "created_before") for value in (datetime(2026, 1, 1), "2026-01-01", 5)),
]


WRONG_IDS = ("1", -1, None, True, 1.5, 1 << 63)


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no")


def test_a_page_or_filter_that_makes_no_sense_is_refused(hand):
    client = hand.client
    task_id = client.enqueue("work")
    for name, value in WRONG_FILTERS:
        with pytest.raises(InvalidInput, match=f"^{name}: "):
            client.tasks(**{name: value})
    for kind in LISTS:
        refuses_wrong_pages(getattr(client, kind), () if kind == "tasks" else (task_id,))
    for kind, name in (("events", "after"), ("workflow_events", "before"), ("attempts", "ended_after")):
        with pytest.raises(InvalidInput, match=f"^{name}: "):
            getattr(client, kind)(task_id, **{name: "yesterday"})
    verbs = ("get", "pause", "resume", "cancel", "redrive", "children", "audit", "workflow_audit", "workflow_summary")
    for verb in (*verbs, *LISTS[1:]):
        refuses_wrong_ids(getattr(client, verb))
    for count in (client.statistics, client.delete):
        for name, value in (("status", "failed"), ("status", Unspeakable()), ("type", ""), ("tag", 5)):
            with pytest.raises(InvalidInput, match=f"^{name}: "):
                count(**{name: value})
        with pytest.raises(TypeError, match="name"):  # Python's own refusal of a filter that there is not
            count(name="work")
    assert client.tasks().total == 1


def refuses_wrong_pages(ask, needed):
    for name, value in WRONG_PAGES:
        with pytest.raises(InvalidInput, match=f"^{name}: "):
            ask(*needed, **{name: value})
    with pytest.raises(TypeError, match="started_at"):
        ask(*needed, started_at=None)


def refuses_wrong_ids(ask):
    with pytest.raises(TypeError, match="_id"):
        ask()
    for wrong in WRONG_IDS:
        with pytest.raises(InvalidInput, match="_id: "):
            ask(wrong)


def test_statistics_count_by_tag_type_and_status(hand):
    client = hand.client
    for tag, type, count in ((None, "work", 2), ("blue", "other", 1), ("blue", "work", 3), ("red", "work", 1)):
        for _ in range(count):
            client.enqueue(type, tag=tag)
    first = client.tasks(tag="blue", type="work").items[0]
    client.cancel(first.id)
    running = hand.claim()[0]
    assert running.tag is None

    def told(**filters):
        return [(one.tag, one.type, one.status.value, one.count) for one in client.statistics(**filters)]

    assert told() == [
        (None, "work", "pending", 1),
        (None, "work", "running", 1),
        ("blue", "other", "pending", 1),
        ("blue", "work", "cancelled", 1),
        ("blue", "work", "pending", 2),
        ("red", "work", "pending", 1),
    ]
    assert told(tag="blue", type="work") == [("blue", "work", "cancelled", 1), ("blue", "work", "pending", 2)]
    assert told(status="running") == [(None, "work", "running", 1)]
    assert told(status=Status.CANCELLED) == [("blue", "work", "cancelled", 1)]
    assert told(tag="green") == []
    assert sum(one.count for one in client.statistics()) == client.tasks().total
    assert {one.status for one in client.statistics()} & FINAL == {Status.CANCELLED}
