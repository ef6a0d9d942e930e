"""Readings see hot and final tasks as one list, each once, within their namespace."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from fibflow.errors import InvalidInput, NotFound
from fibflow.model import EventType, Outcome, Status
from fibflow.store import tables
from fibflow.store.clock import to_datetime
from fibflow.store.reading import children, find, get, statistics, workers
from fibflow.store.subtree import subtree


def _ids(found):
    return [task.id for task in found.items]


def test_a_task_has_the_defaults_filled_in(stored):
    task = stored.call(get, stored.task("scheduled", payload='{"a": 1}', context=b"\x00x", backoff=1_500_000))

    assert (task.status, task.payload, task.context) == (Status.PENDING, {"a": 1}, b"\x00x")
    assert (task.timeout, task.max_attempts, task.backoff, task.backoff_factor) == (60.0, 3, 1.5, 1.0)
    assert (task.root_id, task.parent_id, task.last_event_type) == (task.id, None, EventType.CREATED)
    assert task.created_at == task.last_event_time == to_datetime(stored.ago(100))


def test_a_final_task_reads_like_a_hot_one(stored):
    task = stored.call(get, stored.task("completed", result="[1]", attempt=1, last_outcome="completed"))

    assert (task.status, task.result, task.last_outcome) == (Status.COMPLETED, [1], Outcome.COMPLETED)
    assert task.finished_at == to_datetime(stored.ago(10))
    assert (task.open_children, task.deadline_at) == (0, None)


def test_a_task_of_another_namespace_is_not_found(stored):
    other = stored.task(namespace="other")
    for missing in (other, 99):
        with pytest.raises(NotFound):
            stored.call(get, missing)
    assert stored.call(find).total == 0


def test_pages_go_over_hot_and_final_tasks_in_order(stored):
    ids = [stored.task(status) for status in ("completed", "ready", "cancelled", "scheduled", "completed")]

    page = stored.call(find, limit=2, offset=1)
    assert (_ids(page), page.total, page.has_more) == (ids[1:3], 5, True)
    assert _ids(stored.call(find, limit=3, order="desc")) == ids[:1:-1]
    assert _ids(stored.call(find, limit=3, offset=4)) == ids[4:]
    beyond = stored.call(find, offset=9)
    assert (_ids(beyond), beyond.total, beyond.has_more) == ([], 5, False)


def test_filters_are_combined(stored):
    cron = {"cron_id": 1, "tick": 5}
    stored.put(
        tables.cron_task, id=1, namespace="default", name="nightly", source="code", type_id=1, schedule="@daily",
        payload="{}", missed_run_policy="Skip", concurrency_policy="Allow", pause_on_failure=True,
        decided_through=1, next_at=2,
    )  # fmt: skip
    root = stored.task("suspended", tag="x", created=1000)
    child = stored.task("completed", parent_id=root, type="u", tag="x", attempt=2, last_outcome="completed")
    ticked = stored.task("scheduled", **cron)
    running = stored.task("running", last_outcome="failed")

    for filters, expected in [
        ({"status": "pending"}, [ticked]),
        ({"status": "suspended", "tag": "x"}, [root]),
        ({"status": Status.COMPLETED, "tag": "y"}, []),
        ({"type": "u"}, [child]),
        ({"tag": "x"}, [root, child]),
        ({"root_id": root}, [root, child]),
        ({"parent_id": root}, [child]),
        ({"worker_id": 1}, [running]),
        ({"last_outcome": "failed"}, [running]),
        ({"suspend_reason": "approval"}, [root]),
        ({"cron": "nightly"}, [ticked]),
        ({"created_before": to_datetime(stored.ago(500))}, [root]),
        ({"created_after": to_datetime(stored.ago(500)), "type": "t"}, [ticked, running]),
    ]:
        page = stored.call(find, **filters)
        assert (_ids(page), page.total) == (expected, len(expected)), filters
    assert stored.call(get, ticked).cron == "nightly"


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "failed"}, {"last_outcome": "x"}, {"order": "up"}, {"limit": 0}, {"limit": 10_001}, {"limit": True},
        {"offset": -1}, {"worker_id": "1"}, {"root_id": 1 << 63}, {"tag": "\x00"},
    ],
    ids=str,
)  # fmt: skip
def test_a_filter_that_means_nothing_is_refused(stored, wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        stored.call(find, **wrong)


def test_a_naive_time_is_refused(stored):
    with pytest.raises(InvalidInput, match="created_after"):
        stored.call(find, created_after=datetime(2026, 1, 1))


def test_children_are_those_of_the_latest_generation(stored):
    root = stored.task("suspended", attempt=3, spawned=3, children=2, open_children=1)
    stored.task("completed", parent_id=root, generation=1)
    done = stored.task("completed", parent_id=root, generation=3, type="u", result='"r"')
    failed = stored.task("permanently_failed", parent_id=root, generation=3, error="E")
    waits = stored.task("ready", parent_id=root, generation=3)

    found = stored.call(children, root)
    assert [(child.id, child.name, child.status, child.result, child.error) for child in found] == [
        (done, "u", Status.COMPLETED, "r", None),
        (failed, "t", Status.PERMANENTLY_FAILED, None, "E"),
        (waits, "t", Status.PENDING, None, None),
    ]
    assert stored.call(children, waits) == []
    with pytest.raises(NotFound):
        stored.call(children, 99)


def test_statistics_count_by_tag_type_and_status(stored):
    for status in ("ready", "scheduled", "completed", "completed"):
        stored.task(status, tag="x")
    stored.task("completed", type="u")

    def told(**filters):
        return [(one.tag, one.type, one.status.value, one.count) for one in stored.call(statistics, **filters)]

    assert told() == [(None, "u", "completed", 1), ("x", "t", "completed", 2), ("x", "t", "pending", 2)]
    assert told(status="pending") == [("x", "t", "pending", 2)]
    assert told(tag="x", type="u") == []


def test_workers_tell_what_they_run(stored):
    stored.worker(1)
    stored.worker(2, status="reaped", ended_at=stored.ago(3), ended_by=1)
    stored.worker(3, namespace="other")
    stored.task("running")
    stored.task("running")

    one, two = stored.call(workers)
    assert (one.id, one.running, one.pod_id, one.paused) == (1, 2, "pod-1", False)
    assert (two.running, two.ended_by, two.ended_at) == (0, 1, to_datetime(stored.ago(3)))
    assert one.expires_at - one.renewed_at == timedelta(seconds=31)


@contextmanager
def every_statement() -> Iterator[list[str]]:
    """What SQLAlchemy sends meanwhile, on whatever connection."""
    sent: list[str] = []

    def keep(*given: Any) -> None:
        sent.append(given[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", keep)


def test_a_tree_is_read_a_level_at_a_time_whatever_its_width(stored):
    root = stored.task("suspended", attempt=1, spawned=1, children=20, open_children=20)
    kids = [stored.task("suspended", parent_id=root, attempt=1, spawned=1, children=2, open_children=2) for _ in range(20)]
    leaves = [stored.task(status, parent_id=kid, root_id=root) for kid in kids for status in ("completed", "ready")]
    with every_statement() as sent:
        found = stored.call(subtree, root)
    assert ([task.id for task in found.tasks], found.left_out) == ([root, *kids, *leaves], 0)
    assert sum(statement.startswith("SELECT") for statement in sent) == 4, "the root, two levels, and that there is no third"

    for limit, left_out in ((61, 0), (60, 1), (22, 39), (21, 40), (20, 1 + 2 * 19), (1, 20)):
        part = stored.call(subtree, root, limit)
        assert ([task.id for task in part.tasks], part.left_out) == ([root, *kids, *leaves][:limit], left_out)
    below = stored.call(subtree, kids[3])
    assert [task.id for task in below.tasks] == [kids[3], *leaves[6:8]]
    for wrong in (0, -1, 10_001, "5", None):
        with pytest.raises(InvalidInput, match="limit"):
            stored.call(subtree, root, wrong)
    with pytest.raises(NotFound):
        stored.call(subtree, 999)
