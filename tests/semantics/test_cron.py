"""Cron: what declaring makes, which instants run, and what a tick's task is.

The clock stands at half past an hour when a test begins, so that no test meets an instant by chance.
"""

from datetime import timedelta
from functools import partial

import pytest

from fibflow import App, PermanentError, Status, child
from fibflow.errors import NotFound
from fibflow.model import ConcurrencyPolicy, MissedRunPolicy, Outcome
from fibflow.schedule import SECOND
from fibflow.store import deciding
from fibflow.store.database import Session
from fix_database import move_clock
from fix_semantics import until

HOUR = 3600
HOURLY = "0 * * * *"


@pytest.fixture(autouse=True)
def half_past(database):
    move_clock(database, HOUR / 2 - database.call(Session.now) / SECOND % HOUR)


def decide(hand):
    """What any worker does once a poll."""
    return hand.database.call(deciding.decide_ticks)


def next_hour(hand, hours=1):
    """A moment after an instant."""
    hand.move_clock(HOUR * hours - hand.database.call(Session.now) / SECOND % HOUR + 1)
    return decide(hand)


def decisions(hand, name="report"):
    return [(tick.decision, tick.reason, tick.count) for tick in hand.client.ticks(name, order="asc").items]


def only(hand):
    (declared,) = hand.client.crons()
    return declared


# ── declaring ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_declaring_a_cron_task_again_changes_it_and_deleting_ends_it(hand):
    client = hand.client
    first = client.put_cron("report", "work", HOURLY, {"n": 1})
    next_hour(hand)
    before = only(hand)
    assert client.put_cron("report", "work", HOURLY, {"n": 1}) == first
    assert only(hand) == before, "a program that starts twice has one schedule"
    assert client.put_cron("report", "other", "30 * * * *", {"n": 2}, tag="x") == first
    changed = only(hand)
    assert (changed.type, changed.schedule, changed.payload, changed.tag) == ("other", "30 * * * *", {"n": 2}, "x")
    assert changed.next_at == before.next_at - timedelta(minutes=30)

    client.delete_cron("report")
    assert client.crons() == []
    next_hour(hand, 5)
    assert [task.payload for task in client.tasks().items] == [{"n": 1}], "what it made stays, and nothing follows"
    for verb in (client.ticks, client.delete_cron, client.pause_cron, client.resume_cron):
        with pytest.raises(NotFound, match="report"):
            verb("report")
    assert client.put_cron("report", "work", HOURLY) != first, "declared anew it is another one"


def test_options_of_a_cron_task_apply_to_its_ticks(hand):
    options = {"timeout": 30, "max_attempts": 7, "backoff": 4, "backoff_factor": 5, "max_backoff": 60}
    hand.client.put_cron("late", "work", HOURLY, {"n": 1}, tag="reports", priority=-3, **options)
    hand.client.put_cron("usual", "work", HOURLY)
    hand.client.put_cron("urgent", "work", HOURLY, priority=20)
    next_hour(hand)
    (late,) = hand.client.tasks(cron="late").items
    assert {name: getattr(late, name) for name in options} == options
    assert (late.payload, late.tag, late.priority) == ({"n": 1}, "reports", -3)
    (usual,) = hand.client.tasks(cron="usual").items
    assert (usual.payload, usual.tag, usual.priority, usual.timeout) == ({}, None, 0, 60.0)
    order = [hand.client.get(row.id).cron for row in hand.claim(limit=10)]
    assert order == ["urgent", "usual", "late"], "priorities order what is due"


# ── ticks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_tick_is_a_task_of_its_own(workplace):
    def report(ctx, payload):
        return {"attempt": ctx.attempt, "id": ctx.id}

    app = App()
    app.add("report", report)
    client = workplace.client
    workplace.start(app)
    client.put_cron("hourly", "report", HOURLY)
    (declared,) = client.crons()
    assert client.tasks().total == 0, "the first run is at the first instant after declaring"
    first = declared.next_at
    for expected in ([first], [first, first + timedelta(hours=1)]):
        workplace.move_clock(HOUR)
        until(partial(ran_at, client, expected))

    one, two = client.tasks(cron="hourly").items
    assert [task.result for task in (one, two)] == [{"attempt": 1, "id": one.id}, {"attempt": 1, "id": two.id}]
    for task in (one, two):
        assert workplace.outcomes(task.id) == ["completed"]
        assert workplace.events(task.id) == ["created", "claimed", "started", "completed"]
    last, before = client.ticks("hourly").items
    assert [(tick.instant, tick.decision, tick.task_id) for tick in (before, last)] == [
        (first, "run", one.id),
        (first + timedelta(hours=1), "run", two.id),
    ]
    (declared,) = client.crons()
    assert declared.next_at == first + timedelta(hours=2)
    alone = client.enqueue("report")
    assert workplace.ended(alone).cron is None, "a task is a task, and need not be a tick"


def ran_at(client, instants):
    """Whether the ticks of these instants have completed, and no other."""
    return [task.tick for task in client.tasks(cron="hourly", status="completed").items] == instants


def test_ticks_neither_overlap_nor_pile_up_by_default(hand):
    hand.client.put_cron("report", "work", HOURLY)
    assert (only(hand).concurrency_policy, only(hand).missed_run_policy) == (
        ConcurrencyPolicy.FORBID,
        MissedRunPolicy.RUN_LATEST,
    )
    next_hour(hand)
    (running,) = hand.claim()
    next_hour(hand)
    assert decisions(hand) == [("run", None, 1), ("skip", "overlap", 1)]
    hand.complete(running)
    next_hour(hand, hours=5)
    hand.move_clock(HOUR / 2)
    decide(hand)
    assert decisions(hand)[2:] == [("skip", "missed", 4), ("run", None, 1)]
    assert hand.client.tasks(status="pending").total == 1

    hand.client.put_cron("report", "work", HOURLY, concurrency_policy="Allow", missed_run_policy="Skip")
    next_hour(hand)
    assert decisions(hand)[4:] == [("run", None, 1)], "beside the one that waits"
    hand.move_clock(3.5 * HOUR)
    decide(hand)
    assert decisions(hand)[5:] == [("skip", "missed", 3)]
    assert decide(hand) == 0, "each instant is decided once"
    ticks = hand.client.ticks("report", order="asc").items
    assert sum(tick.count for tick in ticks) == (ticks[-1].through - ticks[0].instant) / timedelta(hours=1) + 1


def test_a_resumed_cron_task_counts_its_pause_as_missed(hand):
    hand.client.put_cron("report", "work", HOURLY)
    hand.client.put_cron("strict", "work", HOURLY, missed_run_policy="Skip")
    for name in ("report", "strict"):
        hand.client.pause_cron(name)
    next_hour(hand, hours=4)
    hand.move_clock(HOUR / 2)
    assert decide(hand) == 0, "no ticks"
    for name in ("report", "strict"):
        assert decisions(hand, name) == []
        hand.client.resume_cron(name)
    assert decide(hand) == 2
    assert decisions(hand, "report") == [("skip", "missed", 3), ("run", None, 1)]
    assert decisions(hand, "strict") == [("skip", "missed", 4)]
    hand.complete(hand.claim()[0])
    next_hour(hand)
    assert decisions(hand, "report")[2:] == decisions(hand, "strict")[1:] == [("run", None, 1)], "then the next instant"


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMEOUT])
def test_a_tick_that_fails_for_good_pauses_its_cron_task(hand, outcome):
    hand.client.put_cron("report", "work", HOURLY, max_attempts=2)
    hand.client.put_cron("careless", "other", HOURLY, max_attempts=1, pause_on_failure=False)
    next_hour(hand)
    (row,) = hand.claim()
    hand.fail(row, outcome=outcome)
    assert not any(declared.paused for declared in hand.client.crons()), "it is retried"
    hand.fail(hand.again(row.id), outcome=outcome)
    hand.fail(hand.claim("other")[0], outcome=outcome)

    careless, report = hand.client.crons()
    assert hand.client.get(row.id).status is Status.PERMANENTLY_FAILED
    assert (report.paused, report.paused_reason) == (True, f"task {row.id} failed for good")
    assert not careless.paused
    next_hour(hand)
    assert (len(decisions(hand)), len(decisions(hand, "careless"))) == (1, 2)
    hand.client.resume_cron("report")
    assert (decide(hand), [decision for decision, *_ in decisions(hand)]) == (1, ["run", "run"])
    assert [(declared.paused, declared.paused_reason) for declared in hand.client.crons()] == [(False, None)] * 2


def test_failures_of_one_tick_do_not_count_for_the_next(hand):
    hand.client.put_cron("report", "work", HOURLY, max_attempts=2)
    for _ in range(3):
        next_hour(hand)
        (row,) = hand.claim()
        assert (row.failures, row.attempt) == (0, 1)
        hand.fail(row)
        hand.complete(hand.again(row.id))
    assert [task.failures for task in hand.client.tasks(cron="report").items] == [1, 1, 1]
    assert not only(hand).paused


def test_a_tick_may_spawn_children(workplace):
    def report(ctx, payload):
        if ctx.stage == 0:
            return ctx.spawn([child("part", {"n": 1}), child("part", {"n": -1})])
        if ctx.stage == 1:
            return ctx.suspend(reason="awaiting_approval", context=str([part.status for part in ctx.children]).encode())
        return ctx.context.decode()

    def part(ctx, n: int) -> int:
        if n < 0:
            raise PermanentError("negative")
        return n

    app = App()
    app.add("report", report)
    app.add("part", part)
    workplace.start(app)
    client = workplace.client
    client.put_cron("hourly", "report", HOURLY)
    workplace.move_clock(HOUR)
    until(lambda: client.tasks(cron="hourly", status="suspended", suspend_reason="awaiting_approval").total == 1)
    (tick,) = client.tasks(cron="hourly").items
    assert [task.status for task in client.tasks(parent_id=tick.id).items] == [Status.COMPLETED, Status.PERMANENTLY_FAILED]
    assert [task.cron for task in client.tasks(parent_id=tick.id).items] == [None, None], "a child is no tick"
    assert not client.crons()[0].paused, "a failed child is seen, and the tick goes on"
    client.resume(tick.id)
    done = workplace.ended(tick.id)
    assert (done.status, done.stage) == (Status.COMPLETED, 2)
    assert "completed" in done.result and "permanently_failed" in done.result
