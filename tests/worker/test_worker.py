"""A real worker on a real database: what handlers do, and what becomes of their tasks."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fibflow import Client, Status
from fibflow_worker.runtime import Settings, Worker
from scripted_app import app

QUICK = Settings(slots=4, pod_id="pod-0", poll_interval=0.05, heartbeat_interval=0.2, lease=5, drain=2)
FINAL = {Status.COMPLETED, Status.PERMANENTLY_FAILED, Status.CANCELLED}


async def until(condition, seconds=20):
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def run(database, story):
    """Tell a story to a client while a worker runs."""

    async def both():
        worker = Worker(app, database, QUICK)
        app.sync(database)
        running = asyncio.create_task(worker.run())
        try:
            return await story(Client(database), worker)
        finally:
            worker.stop()
            await running
            await database.aclose()

    return asyncio.run(both())


def outcome(database, payload, type="scripted"):
    async def story(client, worker):
        task_id = client.enqueue(type, payload)
        await until(lambda: client.get(task_id).status in FINAL)
        return client.get(task_id)

    return run(database, story)


def test_a_value_completes_the_task(database):
    task = outcome(database, {"do": "ok", "n": 3})
    assert (task.status, task.result, task.progress_percent) == (Status.COMPLETED, {"n": 3}, 50)


def test_an_exception_is_retried_and_keeps_its_traceback(database):
    task = outcome(database, {"do": "fail"})
    assert (task.status, task.attempt, task.failures) == (Status.PERMANENTLY_FAILED, 2, 2)
    assert "broken on purpose" in task.error and "Traceback" in task.error


def test_a_permanent_error_is_not_retried(database):
    assert outcome(database, {"do": "give up"}).attempt == 1


def test_a_handler_out_of_time_is_settled_as_timeout(database):
    task = outcome(database, {"do": "hang"})
    assert (task.status, task.last_outcome, task.attempt) == (Status.PERMANENTLY_FAILED, "timeout", 2)


@pytest.mark.parametrize(
    ("payload", "said"),
    [({"do": "not json"}, "result"), ({"do": "ok", "n": "many"}, "n: 'many' does not fit"), ({"dp": 1}, "does not fit")],
)
def test_what_does_not_fit_fails_without_a_retry_and_names_the_field(database, payload, said):
    task = outcome(database, payload)
    assert (task.status, task.attempt) == (Status.PERMANENTLY_FAILED, 1)
    assert said in task.error


def test_a_handler_in_a_process_returns_its_value_and_reports(database):
    task = outcome(database, {"n": 1}, "spinning")
    assert (task.status, task.progress_text) == (Status.COMPLETED, "begun")
    assert task.result["pid"] != os.getpid()


def test_a_handler_that_spins_in_a_process_is_killed_at_its_timeout(database):
    async def story(client, worker):
        task_id = client.enqueue("spinning", {"n": -1}, timeout=1, max_attempts=1)
        await until(lambda: client.get(task_id).status in FINAL)
        return client.get(task_id)

    task = run(database, story)
    assert (task.status, task.last_outcome) == (Status.PERMANENTLY_FAILED, "timeout")


def test_a_workflow_fans_out_and_in(database):
    task = outcome(database, {"do": "spawn"})
    assert (task.status, task.result, task.stage) == (Status.COMPLETED, {"sum": 5, "context": "sum"}, 1)


def test_a_person_is_waited_for(database):
    async def story(client, worker):
        task_id = client.enqueue("scripted", {"do": "ask"})
        await until(lambda: client.tasks(suspend_reason="awaiting_approval").total == 1)
        client.resume(task_id, "fine")
        await until(lambda: client.get(task_id).status in FINAL)
        return client.get(task_id)

    assert run(database, story).result == "approved"


def test_a_cancelled_task_stops_its_handler(database):
    async def story(client, worker):
        task_id = client.enqueue("scripted", {"do": "hang"}, timeout=60)
        await until(lambda: client.get(task_id).status is Status.RUNNING)
        client.cancel(task_id, "no longer wanted")
        await until(lambda: not worker._slots.running)
        return client.get(task_id)

    assert run(database, story).status is Status.CANCELLED


def test_a_drain_interrupts_what_does_not_finish_and_counts_nothing(database):
    async def story(client, worker):
        task_id = client.enqueue("scripted", {"do": "hang"}, timeout=60)
        await until(lambda: client.get(task_id).status is Status.RUNNING)
        return task_id

    task_id = run(database, story)
    task = Client(database).get(task_id)
    assert (task.status, task.last_outcome, task.failures, task.interruptions) == (Status.PENDING, "interrupted", 0, 0)


def test_a_superseded_worker_lets_go_and_the_task_runs_again(database):
    async def story(client, worker):
        task_id = client.enqueue("scripted", {"do": "hang"}, timeout=60)
        await until(lambda: client.get(task_id).status is Status.RUNNING)
        other = Worker(app, database, QUICK)
        running = asyncio.create_task(other.run())
        await until(lambda: client.get(task_id).attempt >= 2)
        other.stop()
        await running
        return [str(event.type) for event in client.events(task_id).items]

    assert "task_recovered" in run(database, story)


START = [sys.executable, "-m", "fibflow_worker", "scripted_app:app", "--pod-id", "pod-7", "--poll-interval", "0.05"]


def test_the_work_of_a_killed_process_runs_again_in_its_successor(database, database_url):
    client = Client(database)
    app.sync(database)
    task_id = client.enqueue("scripted", {"do": "hang"}, timeout=60)
    here = str(Path(__file__).parent.parent)
    environment = {**os.environ, "FIBFLOW_DATABASE": database_url, "PYTHONPATH": here}

    def started():
        return subprocess.Popen(START, env=environment, cwd=here)

    first = started()
    try:
        asyncio.run(until(lambda: client.get(task_id).status is Status.RUNNING))
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    second = started()
    try:
        asyncio.run(until(lambda: client.get(task_id).attempt == 2))
    finally:
        second.kill()
        second.wait()
    (event,) = client.events(task_id, types=["task_recovered"]).items
    assert event.metadata is not None
    assert event.metadata["lost_pod"] == event.metadata["recovered_by_pod"] == "pod-7"
