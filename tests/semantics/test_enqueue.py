"""Enqueue: what a new task is, what it takes from its type, and what is refused."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from fibflow import App, Client, NewTask, Options, Status, child
from fibflow.errors import InvalidInput, UnknownTaskType
from fibflow.model import MAX_JSON
from fibflow.store.tasktypes import Declaration, declare_types
from fibflow_worker.runtime import Settings, Worker
from fix_by_hand import Hand
from fix_semantics import QUICK, serving, until


def test_tasks_wait_until_a_worker_runs(database_url, workplace):
    app = App()
    app.add("greet", lambda ctx, name="nobody": f"hello {name}")
    app.sync(workplace.database)
    with Client(database_url) as program:  # it has no handlers, and no worker runs
        ids = [program.enqueue("greet"), program.enqueue("greet", {"name": "Ann"})]
        assert ids == sorted(set(ids)) and all(isinstance(task_id, int) for task_id in ids)
        assert [program.get(task_id).status for task_id in ids] == [Status.PENDING] * 2
    worker = workplace.start(app)
    assert [workplace.ended(task_id).result for task_id in ids] == ["hello nobody", "hello Ann"]

    workplace.tell(worker.pause)
    waiting = workplace.client.enqueue("greet")
    assert workplace.client.get(waiting).status is Status.PENDING
    workplace.tell(worker.resume)
    assert workplace.ended(waiting).result == "hello nobody"


def test_an_id_is_never_used_again(hand):
    last = hand.client.enqueue("work")
    hand.client.cancel(last)
    assert hand.client.delete().tasks == 1
    assert hand.client.enqueue("work") > last


def test_a_delayed_task_starts_when_its_time_has_come(hand):
    now = hand.client.get(hand.client.enqueue("other")).created_at
    due = {
        hand.client.enqueue("work", delay=10.5): 10.5,
        hand.client.enqueue("work", run_at=now + timedelta(seconds=20)): 20,
        hand.client.enqueue("work", run_at=now + timedelta(hours=2, seconds=30), delay=None): 7230,
    }
    for task_id, seconds in due.items():
        task = hand.client.get(task_id)
        assert task.status is Status.PENDING
        assert abs((task.run_at - now).total_seconds() - seconds) < 5
    assert hand.claim() == []
    for task_id, step in zip(due, (16, 10, 7205), strict=True):
        hand.move_clock(step)
        (row,) = hand.claim(limit=10)
        assert row.id == task_id, "one after the other"
        hand.complete(row)
    assert hand.again(hand.client.enqueue("work", run_at=datetime(2020, 1, 1, tzinfo=UTC))), "what is past is due"

    for wrong in ({"delay": -1}, {"delay": "5"}, {"run_at": datetime(2026, 1, 1)}, {"run_at": 5}, {"delay": 1, "run_at": now}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            hand.client.enqueue("work", **wrong)


def test_an_enqueue_wakes_an_idle_worker(workplace):
    app = App()
    app.add("greet", lambda ctx, payload: "hello")
    rarely = 3600 if workplace.database.postgresql else 0.05  # SQLite's workers poll
    workplace.start(app, poll_interval=rarely)
    if workplace.database.postgresql:
        until(lambda: listeners(workplace.database) == 1)
    with Client(workplace.url) as elsewhere:
        began = time.monotonic()
        first = elsewhere.enqueue("greet")
        assert workplace.ended(first).result == "hello"
        second = elsewhere.enqueue("greet")
        assert workplace.ended(second).result == "hello"
        assert time.monotonic() - began < 60, "long before the next poll"


def test_a_program_that_shares_its_database_with_a_worker_wakes_it_whatever_database_it_is(workplace):
    app = serving(greet=lambda ctx, payload: payload)
    app.sync(workplace.database)
    workplace.run(Worker(app, workplace.database, Settings(**QUICK | {"poll_interval": 3600})))
    until(lambda: not workplace.database.postgresql or listeners(workplace.database) == 1)
    assert [workplace.outcome("greet", number).result for number in range(3)] == [0, 1, 2]
    ids = workplace.client.enqueue_many([NewTask("greet", number) for number in range(3)])
    assert [workplace.ended(task_id).result for task_id in ids] == [0, 1, 2]
    workplace.client.pause(paused := workplace.client.enqueue("greet", delay=3600))
    workplace.move_clock(3600)
    workplace.client.resume(paused)
    assert workplace.ended(paused).status is Status.COMPLETED


def listeners(database):
    """How many connections wait for notifications."""
    query = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
    with database.engine.connect() as connection:
        return connection.execute(query).scalar()


GOOD = {"text": "ü 漢 \u2028", "zero": 0, "empty": "", "no": False, "none": None, "list": [1.5, {}], "big": 2**53}
BAD = {
    "a set": {1, 2},
    "bytes": b"x",
    "an object": object(),
    "NaN": {"x": float("nan")},
    "infinity": [float("inf")],
    "NUL": {"x": "a\x00b"},
    "a NUL in a key": {"a\x00": 1},
    "a lone surrogate": {"x": "\ud800"},
    "a key that is no text": {1: 2},
    "too long": "x" * MAX_JSON,
    "too deep": json.loads("[" * 255 + "]" * 255),
}


def test_an_unknown_type_or_a_bad_payload_stores_nothing(hand):
    with pytest.raises(UnknownTaskType, match="'nobody' is not a task type of namespace 'default'"):
        hand.client.enqueue("nobody")
    for what, payload in BAD.items():
        with pytest.raises(InvalidInput, match="payload") as refusal:
            hand.client.enqueue("work", payload)
        assert len(str(refusal.value)) < 1000, what
    for wrong, field in (
        *((kind, "type") for kind in (None, "", 5, "x" * 254, "a\x00b")),
        *(({"tag": tag}, "tag") for tag in ("", 5, "x" * 254, "a\x00b")),
    ):
        with pytest.raises(InvalidInput, match=field):
            hand.client.enqueue(**{"type": "work"} | (wrong if isinstance(wrong, dict) else {"type": wrong}))
    for not_one in (None, "work", {"type": "work"}):
        with pytest.raises(InvalidInput, match="task"):
            hand.client.enqueue_many([not_one])
    assert hand.client.tasks().total == 0

    for payload in (GOOD, [1, 2], "text", 0, False, None, "x" * (MAX_JSON - 2)):
        assert hand.client.get(hand.client.enqueue("work", payload)).payload == payload, "any JSON value, as it is"
    assert hand.client.get(hand.client.enqueue("work")).payload == child("work").payload == {}
    assert child("work", None).payload is None


def test_a_handler_takes_a_payload_whole_or_by_checked_names(workplace):
    app = App()
    app.add("whole", lambda ctx, payload: payload)

    def resize(ctx, path: str, width: int = 800) -> list[object]:
        return [path, width]

    app.add("resize", resize)
    workplace.start(app)
    for payload in ([1], "text", {"any": "thing"}, 0):
        assert workplace.outcome("whole", payload).result == payload
    assert workplace.outcome("resize", {"path": "a.png"}).result == ["a.png", 800]
    for wrong, said in (({"path": 5}, "path"), ({}, "path"), ({"path": "a", "x": 1}, "x"), ([1], "payload")):
        task = workplace.outcome("resize", wrong)
        assert (task.status, task.attempt) == (Status.PERMANENTLY_FAILED, 1), "without a retry"
        assert f"{said}: " in task.error and "does not fit the handler" in task.error


def test_many_tasks_are_stored_all_or_none(hand):
    many = [NewTask("work" if n % 3 else "other", {"n": n}, tag="many", delay=n) for n in range(10)]
    ids = hand.client.enqueue_many(many)
    assert ids == sorted(set(ids))
    assert [hand.client.get(task_id).payload["n"] for task_id in ids] == list(range(10)), "in the order given"
    assert hand.client.enqueue_many([]) == []

    for bad in (NewTask("nobody"), NewTask("work", {1, 2}), NewTask("work", delay=-1)):
        with pytest.raises(InvalidInput):
            hand.client.enqueue_many([NewTask("work"), bad, NewTask("other")])
    assert hand.client.tasks().total == 10


# ── who wins ──────────────────────────────────────────────────────────────────────────────────────────────────────

OPTIONS = ("timeout", "max_attempts", "backoff", "backoff_factor", "max_backoff", "priority")
GLOBAL = (60.0, 3, 0.0, 1.0, None, 0)


def options(task):
    return tuple(getattr(task, name) for name in OPTIONS)


def test_options_of_the_task_win_over_those_of_the_type(database):
    hand = Hand(database)
    app = App(max_attempts=5, priority=1)
    app.add("work", lambda ctx: None, timeout=10, backoff=2, priority=2)
    assert options(enqueued(hand)) == GLOBAL
    app.sync(database)
    assert options(enqueued(hand)) == (10, 5, 2, 1, None, 2), "the decorator over the application's over the global ones"

    resource = Declaration("work", Options(timeout=20, backoff_factor=3, priority=-3))
    database.call(declare_types, [resource], source="resource")
    assert options(enqueued(hand)) == (20, 5, 2, 3, None, -3), "the resource over the decorator"
    app.sync(database)
    assert enqueued(hand).timeout == 20, "whoever speaks last"

    own = {"timeout": 30, "max_attempts": 7, "backoff": 4, "backoff_factor": 5, "max_backoff": 60, "priority": 20}
    assert options(enqueued(hand, **own)) == tuple(own.values()), "the task's own over all"
    assert options(enqueued(hand, timeout=None, priority=None)) == (20, 5, 2, 3, None, -3), "None is not given"


def test_a_child_takes_from_its_parent_what_neither_it_nor_its_type_says(hand):
    hand.client.declare_types([Declaration("other", Options(timeout=10))])
    row = hand.take(timeout=30, max_attempts=7, backoff=4, backoff_factor=5, max_backoff=60, priority=20, tag="x")
    plain, own = hand.spawn(row, child("other"), child("other", timeout=1, priority=0))
    assert options(hand.client.get(plain)) == (10, 7, 4, 5, 60, 20)
    assert options(hand.client.get(own)) == (1, 7, 4, 5, 60, 0)
    assert hand.client.get(plain).tag is None, "nothing else"


def enqueued(hand, **given):
    return hand.client.get(hand.client.enqueue("work", **given))
