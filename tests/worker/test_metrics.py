"""A live worker's metrics: all that the reference names, nothing else, and the numbers are those of the database."""

import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fibflow import Client, NewTask, Status
from fibflow.metrics import LOST_WORKERS, RECOVERIES
from fibflow.store import leases
from fibflow.store.claim import Lane, claim
from scraping import families, free_port, samples, scrape, value
from scripted_app import app

TESTS = Path(__file__).parents[1]
REFERENCE = runpy.run_path(str(TESTS.parent / "tools" / "reference.py"))
DONE = [NewTask("scripted", {"do": "ok"})] * 3 + [NewTask("scripted", {"do": "fail"}), NewTask("threaded", {"n": 2})]
FINAL = {Status.COMPLETED, Status.PERMANENTLY_FAILED}


def until(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def worker(database_url):
    """The port of a worker process, once it is registered."""
    port = free_port()
    command = [sys.executable, "-m", "fibflow_worker", "scripted_app:app", "--database", database_url, "--port", str(port)]
    process = subprocess.Popen([*command, "--slots", "4", "--pod-id", "pod"], cwd=TESTS, stderr=subprocess.DEVNULL)
    until(lambda: value(scrape(port), "fibflow_claiming") == 1)
    yield port
    process.terminate()
    process.wait(30)


def test_a_worker_serves_what_the_reference_says_and_counts_what_it_did(worker, database):
    app.sync(database)
    client = Client(database)
    ids = client.enqueue_many(DONE)
    until(lambda: {client.get(task_id).status for task_id in ids} <= FINAL)
    until(lambda: value(scrape(worker), "fibflow_attempts_total") == 6)
    text = scrape(worker)
    described = {(each.name, each.kind): set(each.labels) for each in REFERENCE["served"]("worker")}
    assert families(text) == described.keys()
    assert {name for name, labels, _ in samples(text) if labels.keys() - {"le"} - _allowed(name, described)} == set()
    assert value(text, "fibflow_claims_total", type="scripted") == 5
    assert value(text, "fibflow_attempts_total", type="scripted", outcome="completed") == 3
    assert value(text, "fibflow_attempts_total", type="scripted", outcome="failed") == 2
    assert value(text, "fibflow_retries_total", type="scripted") == 1
    assert value(text, "fibflow_permanent_failures_total", type="scripted") == 1
    assert value(text, "fibflow_attempt_duration_seconds_count", type="threaded") == 1
    assert value(text, "fibflow_pickup_seconds_count") == 6
    assert (value(text, "fibflow_slots"), value(text, "fibflow_slots_busy")) == (4, 0)
    assert value(text, "fibflow_turn_duration_seconds_count") > 0


def _allowed(name, described):
    """The labels of the metric that a sample belongs to."""
    stems = (name, *(name.removesuffix(end) for end in ("_bucket", "_sum", "_count")))
    return next(labels for (metric, _), labels in described.items() if metric in stems)


def test_who_takes_the_place_of_a_worker_counts_it_and_what_it_ran(database):
    app.sync(database)
    task_id = Client(database).enqueue("threaded", {"n": 1})
    before = [RECOVERIES.labels("superseded")._value.get(), LOST_WORKERS.labels("superseded")._value.get()]
    place = {"pod_id": "pod", "host": "h", "pid": 1, "slots": 1, "lease": 30.0}
    first = database.call(leases.register, **place)
    (type_id,) = (each.id for each in Client(database).types() if each.name == "threaded")
    (claimed,) = database.call(claim, first, [Lane(type_id, 1)], 1)
    assert claimed.id == task_id
    database.call(leases.register, **place)
    after = [RECOVERIES.labels("superseded")._value.get(), LOST_WORKERS.labels("superseded")._value.get()]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]
