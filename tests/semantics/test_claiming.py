"""Which tasks a worker claims, in which order, how many at once, and that no other has them too."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fibflow import App, Client, NewTask, Status
from fibflow.errors import DatabaseUnavailable, InvalidInput
from fibflow.store import claim
from fibflow.store.database import Database
from fibflow_worker.runtime import Settings, Worker
from fix_semantics import QUICK, Gate, serving, until


async def echo(ctx, payload):
    return payload


# ── which, and in which order ─────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_claims_only_due_tasks_it_has_handlers_for(workplace):
    serving(mine=echo, other=echo).sync(workplace.database)
    elsewhere = Client(workplace.connections("elsewhere"))
    serving(mine=echo).sync(elsewhere.database)
    foreign = elsewhere.enqueue("mine")
    other, later = workplace.client.enqueue("other"), workplace.client.enqueue("mine", delay=3600)
    worker = workplace.start(serving(mine=echo))
    done = workplace.outcome("mine", delay=0.2)
    assert done.worker_id == worker.worker_id
    assert done.started_at >= done.run_at > done.created_at
    waiting = workplace.client.get(other), workplace.client.get(later), elsewhere.get(foreign)
    assert [(task.status, task.attempt) for task in waiting] == [(Status.PENDING, 0)] * 3
    workplace.move_clock(3600)  # the database's; the workers' own clocks stay
    assert workplace.ended(later).worker_id == worker.worker_id
    assert workplace.client.get(other).attempt == elsewhere.get(foreign).attempt == 0
    elsewhere.database.close()


def test_a_worker_without_handlers_claims_nothing(workplace):
    serving(work=echo).sync(workplace.database)
    task_id = workplace.client.enqueue("work")
    idle = workplace.start(App())
    workplace.beats(idle.worker_id)
    assert workplace.client.get(task_id).status is Status.PENDING
    idle.app.add("work", echo)
    workplace.ended(task_id)


BEFORE = {"even": (0, 0), "high": (5, 0), "older": (0, 200), "oldest": (0, 400), "even, too": (0, 0)}
"""The priority of a task, and how many seconds it has been due for longer than the others."""


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (60, ["oldest", "high", "older", "even", "even, too"]),
        (1_000_000_000, ["high", "oldest", "older", "even", "even, too"]),
    ],
)
def test_priority_then_due_time_then_id_decide_who_starts_first(workplace, step, expected):
    async def work(ctx, payload):
        started.append(ctx.tag)

    started: list[str] = []
    app = serving(work=work)
    database = Database(workplace.url, priority_step=step * 1_000_000)
    app.sync(database)
    moment = datetime.now(UTC) - timedelta(hours=1)
    for tag, (priority, age) in BEFORE.items():
        Client(database).enqueue("work", priority=priority, tag=tag, run_at=moment - timedelta(seconds=age))
    database.close()
    workplace.start(app, slots=1)
    until(lambda: len(started) == len(BEFORE))
    assert started == expected


# ── once ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_racing_workers_never_claim_the_same_task(workplace):
    """Nor do they need a connection each: some wait for one."""
    tasks, racers, batch = 300, 20, 8
    serving(work=echo).sync(workplace.database)
    workers = [workplace.registered() for _ in range(racers)]
    ids = workplace.client.enqueue_many([NewTask("work")] * tasks)
    claimed: list[int] = []
    sizes, together = set(), threading.Barrier(racers)

    def race(worker_id):
        together.wait()
        while len(claimed) < tasks:
            rows = workplace.claimed(worker_id, "work", batch)
            sizes.add(len(rows))
            claimed.extend([row.id for row in rows])

    with ThreadPoolExecutor(racers) as threads:
        list(threads.map(race, workers))
    assert sorted(claimed) == ids
    assert max(sizes) == batch
    assert sum(row.running for row in workplace.client.workers()) == tasks


def test_a_call_that_gets_no_connection_says_so(workplace, monkeypatch):
    pool = workplace.database.engine.pool
    monkeypatch.setattr(pool, "_timeout", 0.01)
    with ExitStack() as held:
        for _ in range(pool.size() + pool._max_overflow):
            held.enter_context(workplace.database.engine.connect())
        with pytest.raises(DatabaseUnavailable, match="all connections of this program are in use"):
            workplace.client.pause_type("work")


def test_a_claim_names_owner_start_and_attempt(workplace):
    gate = Gate()

    async def held(ctx, payload):
        await gate.passed()

    worker = workplace.start(serving(held=held))
    task_id = workplace.client.enqueue("held", timeout=30)
    gate.reached()
    running = workplace.client.get(task_id)
    (attempt,) = workplace.client.attempts(task_id).items
    assert (running.status, running.worker_id, running.attempt) == (Status.RUNNING, worker.worker_id, 1)
    assert running.started_at == attempt.started_at == running.deadline_at - timedelta(seconds=30)
    assert (attempt.attempt, attempt.worker_id, attempt.ended_at, attempt.outcome) == (1, worker.worker_id, None, None)
    assert workplace.events(task_id) == ["created", "claimed", "started"]
    gate.open()
    done = workplace.ended(task_id)
    assert (done.started_at, done.deadline_at) == (running.started_at, None)


def test_a_claim_that_fails_is_tried_again(workplace, caplog):
    workplace.start(serving(work=echo))
    with workplace.refusing("task", "NEW.state = 'running'"):
        task_id = workplace.client.enqueue("work")
        until(lambda: any("refused on purpose" in str(record.msg) for record in caplog.records))
        untouched = workplace.client.get(task_id)
        assert (untouched.status, untouched.attempt, untouched.worker_id) == (Status.PENDING, 0, None)
        assert workplace.events(task_id) == ["created"]
    assert workplace.ended(task_id).attempt == 1


def test_a_claimed_task_without_a_handler_is_released(workplace):
    class Interrupted(Database):
        """Its program removes the handler between a claim and the start."""

        async def run(self, verb, *args, **kwargs):
            found = await super().run(verb, *args, **kwargs)
            if verb is claim.claim and found:
                app.remove("work")
            return found

    app = serving(work=echo, other=echo)
    database = Interrupted(workplace.url)
    app.sync(database)
    task_id = workplace.client.enqueue("work")
    workplace.run(Worker(app, database, Settings(**QUICK)))
    until(lambda: workplace.client.get(task_id).attempt == 1)
    workplace.outcome("other")
    released = workplace.client.get(task_id)
    assert (released.status, released.failures, released.interruptions) == (Status.PENDING, 0, 0)
    assert workplace.outcomes(task_id) == ["interrupted"]
    workplace.start(serving(work=echo))
    assert workplace.ended(task_id).attempt == 2


def test_a_worker_of_one_type_declares_and_runs_no_other(workplace):
    app = serving(work=echo, other=echo)
    workplace.run(Worker(app, Database(workplace.url), Settings(**QUICK, type="work")))
    assert [each.name for each in workplace.client.types()] == ["work"]
    app.sync(workplace.database)
    left = workplace.client.enqueue("other")
    workplace.outcome("work")
    assert workplace.client.get(left).attempt == 0


# ── how many at once ──────────────────────────────────────────────────────────────────────────────────────────────


class Crowd:
    """Handlers that wait in company: who is in, and the most that ever were."""

    def __init__(self):
        self.gate, self.inside, self.most = Gate(), Counter[str](), Counter[str]()

    async def enter(self, ctx, payload):
        self.inside[ctx.name] += 1
        self.most = self.most | self.inside
        try:
            await self.gate.passed()
        finally:
            self.inside[ctx.name] -= 1


def test_slots_and_limits_of_types_hold_together(workplace):
    crowd, app = Crowd(), App()
    app.add("single", crowd.enter, max_concurrent_tasks=1)
    app.add("double", crowd.enter, max_concurrent_tasks=2)
    app.add("free", crowd.enter)
    app.sync(workplace.database)
    ids = workplace.client.enqueue_many([NewTask(name) for name in ("single", "double", "free") for _ in range(4)])
    worker = workplace.start(app, slots=4)
    until(lambda: crowd.inside.total() == 4)
    workplace.beats(worker.worker_id)
    assert crowd.inside == {"single": 1, "double": 2, "free": 1}
    crowd.gate.open()
    assert {workplace.ended(task_id).status for task_id in ids} == {Status.COMPLETED}
    assert crowd.most["single"] == 1 and crowd.most["double"] == 2 and crowd.most["free"] <= 4
    with pytest.raises(InvalidInput, match="max_concurrent_tasks: 0 is not between"):
        app.add("none", crowd.enter, max_concurrent_tasks=0)


def test_a_limit_above_the_slots_is_none(workplace):
    crowd, app = Crowd(), App()
    app.add("work", crowd.enter, max_concurrent_tasks=5)
    app.sync(workplace.database)
    workplace.client.enqueue_many([NewTask("work")] * 4)
    worker = workplace.start(app, slots=2)
    until(lambda: crowd.inside.total() == 2)
    workplace.beats(worker.worker_id)
    assert crowd.inside.total() == 2
    crowd.gate.open()
    until(lambda: workplace.client.tasks(status="completed").total == 4)


def test_limits_survive_failures_and_change_at_run_time(workplace):
    async def failing(ctx, payload):
        raise RuntimeError("broken on purpose")

    crowd, app = Crowd(), App()
    limits: dict[str, Any] = {"max_concurrent_tasks": 1}
    app.add("failing", failing, max_attempts=2, **limits)
    app.add("work", crowd.enter, **limits)
    limits["max_concurrent_tasks"] = 4
    worker = workplace.start(app, slots=4)
    failed = workplace.client.enqueue_many([NewTask("failing")] * 3)
    assert [workplace.ended(task_id).attempt for task_id in failed] == [2, 2, 2]
    workplace.client.enqueue_many([NewTask("work")] * 4)
    until(lambda: crowd.inside.total() == 1)
    workplace.beats(worker.worker_id)
    assert crowd.inside.total() == 1
    app.add("work", crowd.enter, max_concurrent_tasks=2)
    until(lambda: crowd.inside.total() == 2)
    workplace.beats(worker.worker_id)
    assert crowd.inside.total() == 2
    app.remove("work")
    app.add("work", crowd.enter, max_concurrent_tasks=2)
    workplace.beats(worker.worker_id)
    assert crowd.inside.total() == 2
    crowd.gate.open()
    until(lambda: workplace.client.tasks(status="completed").total == 4)
    assert crowd.most["work"] == 2
