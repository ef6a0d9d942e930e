"""A real worker whose handlers return and raise anything: each attempt fails alone, says why, and holds nothing up."""

import asyncio
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

import bad_results_app
from bad_results_app import ENDINGS, ERRORS, VALUES, app
from fibflow import Client, NewTask, Options, Status
from fibflow_worker.runtime import Settings, Worker

SETTINGS = Settings(poll_interval=0.05, heartbeat_interval=1, lease=30, drain=2)
FINAL = {Status.COMPLETED, Status.PERMANENTLY_FAILED, Status.CANCELLED}
NOT_FROM_A_THREAD = {"the end of a generator", "the end of an iterator"}
SLOTS = {"in_the_loop": 64, "in_a_thread": 64, "in_a_process": 2}
BRIEF = Options(timeout=0.5)
GOOD = [f"good {number}" for number in range(20)]


async def until(condition, seconds=40):
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def work(database, tasks, *, together=0, slots=64):
    """Let a worker do the tasks; they as they ended, by what was asked of them. The gate opens when so many run."""

    async def story():
        bad_results_app.gate = asyncio.Event()
        worker = Worker(app, database, replace(SETTINGS, slots=slots))
        client = Client(database)
        app.sync(database)
        ids = client.enqueue_many(tasks)
        running = asyncio.create_task(worker.run())
        try:
            await until(lambda: client.tasks(status="running", type="together").total == together)
            bad_results_app.gate.set()
            await until(lambda: running.done() or sum(client.get(task_id).status in FINAL for task_id in ids) == len(ids))
            assert not running.done(), "the worker ended"
        finally:
            worker.stop()
            await running
            await database.aclose()
        return {task.payload["what"]: task for task in map(client.get, ids)}

    return asyncio.run(story())


@pytest.mark.parametrize("place", SLOTS)
def test_what_is_not_json_fails_its_attempt_without_a_retry_and_is_named(database, place):
    ended = work(database, [NewTask(place, {"what": what}) for what in VALUES], slots=SLOTS[place])
    assert list(ended) == list(VALUES)
    for what, task in ended.items():
        assert (what, task.status, task.attempt, task.last_outcome) == (what, Status.PERMANENTLY_FAILED, 1, "failed")
        assert task.result is None
        assert "result: " in task.error, what
    assert "holds NaN or infinity" in ended["NaN"].error
    assert "NUL" in ended["a NUL"].error
    assert "is longer than 1048576 bytes" in ended["2 MiB"].error
    assert "is not JSON" in ended["a set"].error
    assert "surrogate" in ended["half a surrogate pair"].error


def test_the_rest_of_a_batch_settles_with_a_bad_result_in_it(database):
    tasks = [NewTask("together", {"what": what}) for pair in zip(VALUES, GOOD, strict=False) for what in pair]
    ended = work(database, tasks, together=len(tasks))
    failed = {what for what, task in ended.items() if task.status is Status.PERMANENTLY_FAILED}
    assert failed == set(VALUES)
    assert {task.result for task in ended.values() if task.status is Status.COMPLETED} == set(ended) - failed
    with database.engine.connect() as connection:
        query = TRANSACTIONS[connection.dialect.name]
        assert connection.execute(sa.text(query)).scalar_one() == 1, "they ended in one transaction"


TRANSACTIONS = {
    "sqlite": "SELECT count(DISTINCT ended_at) FROM attempt",
    "postgresql": "SELECT count(DISTINCT xmin::text) FROM fibflow.attempt",
}

REFUSE = {
    "sqlite": [
        """CREATE TRIGGER refuse BEFORE INSERT ON task_final WHEN NEW.result LIKE '%poison%'
        BEGIN SELECT RAISE(ABORT, 'not this one'); END"""
    ],
    "postgresql": [
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.result LIKE '%poison%' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$""",
        "CREATE TRIGGER refuse BEFORE INSERT ON fibflow.task_final FOR EACH ROW EXECUTE FUNCTION refuse()",
    ],
}


def test_a_result_that_the_database_itself_refuses_stands_alone(database):
    with database.engine.begin() as connection:
        for statement in REFUSE[connection.dialect.name]:
            connection.execute(sa.text(statement))
    tasks = [NewTask("together", {"what": what}) for what in (*GOOD[:10], "poison", *GOOD[10:])]
    ended = work(database, tasks, together=len(tasks))
    poisoned = ended.pop("poison")
    assert (poisoned.status, poisoned.attempt) == (Status.PERMANENTLY_FAILED, 1)
    assert "not this one" in poisoned.error
    assert {task.status for task in ended.values()} == {Status.COMPLETED}


@pytest.mark.parametrize("place", SLOTS)
def test_whatever_a_handler_raises_fails_its_attempt_and_nothing_else(database, place):
    asked = [what for what in ERRORS if place != "in_a_thread" or what not in NOT_FROM_A_THREAD]
    ended = work(database, [NewTask(f"raises_{place}", {"what": what}) for what in asked], slots=SLOTS[place])
    for what, task in ended.items():
        assert (what, task.status, task.last_outcome, task.failures) == (what, Status.PERMANENTLY_FAILED, "failed", 1)
        assert task.error, what
    assert "a\ufffdb" in ended["a NUL and half a surrogate pair"].error
    assert "bytes left out" in ended["a long error"].error
    assert "SystemExit" in ended["an exit"].error


@pytest.mark.parametrize("what", sorted(NOT_FROM_A_THREAD))
def test_the_end_of_an_iterator_or_a_generator_in_a_thread_fails_the_attempt(database, what):
    (task,) = work(database, [NewTask("raises_in_a_thread", {"what": what}, options=BRIEF)]).values()
    assert (task.status, task.last_outcome) == (Status.PERMANENTLY_FAILED, "failed")


def test_an_attempt_whose_children_or_context_cannot_be_stored_fails_and_creates_nothing(database):
    ended = work(database, [NewTask("ends", {"what": what}) for what in ENDINGS])
    for what, task in ended.items():
        assert (what, task.status, task.attempt) == (what, Status.PERMANENTLY_FAILED, 1)
    assert Client(database).tasks().total == len(ENDINGS)
    assert "'nobody' is not a task type" in ended["a child of an unknown type"].error
    assert "payload: " in ended["a child with a bad payload"].error
    assert "timeout: -1" in ended["a child with a bad option"].error
    assert "tag: " in ended["one good child among bad ones"].error
    assert "reason: " in ended["a reason with a NUL"].error
