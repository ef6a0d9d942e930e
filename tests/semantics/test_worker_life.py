"""A worker's own life: from init to stopped, paused and resumed, stopped with grace, and steady when its rounds fail."""

import asyncio
import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from fibflow import App, Client, Status
from fibflow.errors import FibflowError, NotFound
from fibflow.store import polling
from fibflow.store.tables import task
from fibflow_worker.runtime import Settings, Worker
from fix_semantics import QUICK, Gate, serving, until
from scripted_app import app as scripted


async def echo(ctx, payload):
    return payload


def test_a_worker_goes_from_init_to_stopped_and_never_back(workplace):
    gate = Gate()

    async def held(ctx, payload):
        await gate.passed()

    app = serving(held=held)
    app.sync(workplace.database)
    worker = Worker(app, workplace.connections(), Settings(**QUICK))
    assert worker.state == "init"
    workplace.run(worker)
    assert worker.state == "running"
    with pytest.raises(FibflowError, match="a worker that is running cannot be started"):
        workplace.within(worker.run())
    workplace.client.enqueue("held")
    gate.reached()
    workplace.tell(worker.stop)
    until(lambda: worker.state == "draining")
    gate.open()
    workplace.left(worker)
    assert worker.state == "stopped"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("heartbeat")]
    for method in (worker.stop, worker.pause, worker.resume):
        workplace.tell(method)
    assert worker.state == "stopped"
    with pytest.raises(FibflowError, match="a worker that is stopped cannot be started; make a new one"):
        workplace.within(worker.run())
    assert [row.status for row in workplace.client.workers()] == ["stopped"]


def test_a_paused_worker_finishes_what_it_runs_and_claims_nothing(workplace):
    gate = Gate()

    async def held(ctx, payload):
        await gate.passed()

    app = serving(held=held, work=echo)
    app.sync(workplace.database)
    dead = workplace.registered(lease=10)
    lost = workplace.taken(dead, "work").id
    worker = workplace.start(app, slots=1)
    running = workplace.client.enqueue("held")
    gate.reached()
    workplace.tell(worker.pause)
    waiting = workplace.client.enqueue("work")
    gate.open()
    workplace.ended(running)
    workplace.move_clock(11)
    until(lambda: workplace.worker(dead).status == "reaped")  # its sweeps go on
    workplace.beats(worker.worker_id)
    assert [workplace.client.get(task_id).status for task_id in (lost, waiting)] == [Status.PENDING] * 2
    workplace.tell(worker.resume)
    assert [workplace.ended(task_id).status for task_id in (lost, waiting)] == [Status.COMPLETED] * 2


def test_a_worker_that_is_paused_before_it_starts_starts_paused(workplace):
    app = serving(work=echo)
    app.sync(workplace.database)
    worker = Worker(app, workplace.connections(), Settings(**QUICK))
    worker.pause()
    worker.resume()
    worker.pause()
    workplace.run(worker)
    task_id = workplace.client.enqueue("work")
    workplace.beats(worker.worker_id)
    assert workplace.client.get(task_id).status is Status.PENDING
    workplace.tell(worker.resume)
    workplace.ended(task_id)


def test_a_worker_is_paused_and_resumed_from_elsewhere(workplace):
    gate = Gate()

    async def held(ctx, payload):
        await gate.passed()

    worker = workplace.start(serving(held=held, work=echo), slots=1)
    workplace.client.enqueue("held")
    gate.reached()
    workplace.client.pause_worker(worker.worker_id)
    assert workplace.worker(worker.worker_id).paused
    workplace.beats(worker.worker_id)
    task_id = workplace.client.enqueue("work")
    gate.open()
    workplace.beats(worker.worker_id)
    waiting = workplace.client.get(task_id).status
    workplace.client.resume_worker(worker.worker_id)
    workplace.ended(task_id)
    assert waiting is Status.PENDING


def test_only_an_active_worker_is_paused(workplace):
    stopped = workplace.start(serving(work=echo))
    workplace.stop(stopped)
    for verb in (workplace.client.pause_worker, workplace.client.resume_worker):
        with pytest.raises(NotFound, match=f"there is no active worker {stopped.worker_id}"):
            verb(stopped.worker_id)


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stopping_worker_settles_what_finishes(workplace):
    gates, heard = {"in time": Gate(), "never": Gate()}, []

    async def held(ctx, payload):
        try:
            await gates[ctx.tag].passed()
        finally:
            heard.append((ctx.tag, ctx.cancelled))

    worker = workplace.start(serving(held=held), slots=2, drain=0.5)
    in_time, never, unclaimed = (workplace.client.enqueue("held", tag=tag) for tag in ("in time", "never", "in time"))
    for gate in gates.values():
        gate.reached()
    workplace.tell(worker.stop)
    gates["in time"].open()
    workplace.left(worker)
    assert workplace.client.get(in_time).status is Status.COMPLETED
    interrupted = workplace.client.get(never)
    assert (interrupted.status, interrupted.last_outcome, interrupted.worker_id) == (Status.PENDING, "interrupted", None)
    assert (interrupted.attempt, interrupted.failures, interrupted.interruptions) == (1, 0, 0)
    assert heard == [("in time", "drain"), ("never", "drain")]
    assert (workplace.client.get(unclaimed).status, workplace.client.get(unclaimed).attempt) == (Status.PENDING, 0)


def test_a_worker_drains_although_handlers_hold_the_loops_threads(workplace):
    released = threading.Event()

    async def held(ctx, payload):
        await asyncio.to_thread(released.wait)

    async def few():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))

    workplace.within(few())
    worker = workplace.start(serving(held=held), drain=0)
    task_id = workplace.client.enqueue("held")
    workplace.becomes(task_id, Status.RUNNING)
    try:
        workplace.stop(worker)
    finally:
        released.set()
    assert workplace.worker(worker.worker_id).status == "stopped"


HERE = Path(__file__).parent.parent
START = [sys.executable, "-m", "fibflow_worker", "scripted_app:app", "--poll-interval", "0.05", "--heartbeat-interval", "0.1"]


@pytest.fixture
def process(database_url):
    """A worker's own process."""
    environment = {**os.environ, "FIBFLOW_DATABASE": database_url, "PYTHONPATH": str(HERE)}
    started = subprocess.Popen(START, env=environment, cwd=HERE)
    yield started
    started.kill()
    started.wait()


def running(database, **options):
    """A client, and a task that hangs in a process."""
    scripted.sync(database)
    client = Client(database)
    task_id = client.enqueue("scripted", {"do": "hang"}, **options)
    until(lambda: client.get(task_id).status is Status.RUNNING)
    return client, task_id


def test_a_signal_drains_a_process(database, process):
    client, task_id = running(database, timeout=3, max_attempts=1)  # seen to run, also on a machine that is busy
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert client.get(task_id).last_outcome == "timeout"  # it was awaited
    assert [row.status for row in client.workers()] == ["stopped"]


def test_a_second_signal_hurries_it(database, process):
    client, task_id = running(database, timeout=60, max_attempts=1)
    until(lambda: process.poll() is not None or process.send_signal(signal.SIGTERM))
    assert (client.get(task_id).status, client.get(task_id).last_outcome) == (Status.PENDING, "interrupted")


# ── rounds that fail ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_round_of_maintenance_is_repeated(workplace):
    app = serving(work=echo)
    app.sync(workplace.database)
    dead = workplace.registered(lease=10)
    task_id = workplace.taken(dead, "work").id
    worker = workplace.start(app)
    with workplace.refusing("task", "NEW.state = 'ready'"):
        workplace.move_clock(11)
        workplace.beats(worker.worker_id, 3)
        assert workplace.worker(dead).status == "active"  # its end, its task's and what is told of them are one transaction
        assert workplace.client.get(task_id).worker_id == dead
        assert workplace.events(task_id) == ["created", "claimed", "started"]
        assert workplace.outcomes(task_id) == [None]
    done = workplace.ended(task_id)
    assert (workplace.worker(dead).status, done.worker_id, done.attempt) == ("reaped", worker.worker_id, 2)
    assert workplace.events(task_id)[3:] == ["recovered", "claimed", "started", "completed"]


def test_one_round_settles_the_overdue_and_ends_the_dead(workplace):
    app = App()
    app.add("work", echo, timeout=5, max_attempts=2)
    app.sync(workplace.database)
    dead, slow = workplace.registered(lease=10), workplace.registered()
    lost = workplace.taken(dead, "work", timeout=60).id
    overdue = workplace.taken(slow, "work").id
    missed_by = workplace.registered()
    missed = workplace.taken(missed_by, "work", timeout=60).id
    workplace.evict(missed_by)
    workplace.move_clock(11)
    workplace.start(app)
    outcomes = {task_id: workplace.ended(task_id) and workplace.outcomes(task_id) for task_id in (lost, overdue, missed)}
    assert outcomes == {
        lost: ["interrupted", "completed"],
        overdue: ["timeout", "completed"],
        missed: ["interrupted", "completed"],
    }


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_is_due_but_held_by_others_is_looked_at_once_a_poll(workplace, monkeypatch):
    polls, poll = [], polling.poll

    @functools.wraps(poll)
    def counted(*arguments):
        polls.append(time.monotonic())
        return poll(*arguments)

    app = serving(work=echo)
    app.sync(workplace.database)
    task_id = workplace.client.enqueue("work", delay=0.01)
    with workplace.database.engine.connect() as holding:
        holding.execute(sa.select(task).where(task.c.id == task_id).with_for_update())
        monkeypatch.setattr(polling, "poll", counted)
        workplace.start(app, poll_interval=0.2)
        until(lambda: len(polls) > 5)
        assert min(after - before for before, after in itertools.pairwise(polls[1:])) > 0.1
    assert workplace.ended(task_id).status is Status.COMPLETED
