"""Commands that change something answer programs, too: one JSON document that names what it was done to, and what."""

import json

import pytest

from fibflow import Client, Outcome, Status
from fibflow.context import child
from fibflow.lifecycle import Facts, ended
from fibflow.store import record
from fibflow.store.ending import Ending
from fibflow.store.tasktypes import Declaration


@pytest.fixture
def place(database, database_url, folder, monkeypatch):
    """A client of a database with a task type and a cron task, where the commands work, too."""
    monkeypatch.setenv("FIBFLOW_DATABASE", database_url)
    client = Client(database)
    client.declare_types([Declaration("resize")])
    client.put_cron("nightly", "resize", "@daily")
    return client


@pytest.fixture
def answer(fibflow):
    """What a command answers in JSON."""

    def run(*arguments):
        done = fibflow(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_verb_on_a_task_answers_in_json(place, answer):
    task_id = place.enqueue("resize")
    expected = [
        ("pause", {"id": task_id, "done": "paused"}, Status.PAUSED),
        ("resume", {"id": task_id, "done": "resumed"}, Status.PENDING),
        ("cancel", {"id": task_id, "done": "cancelled"}, Status.CANCELLED),
        ("redrive", {"id": task_id, "done": "redriven"}, Status.PENDING),
    ]
    seen = [(verb, answer(verb, str(task_id)), place.get(task_id).status) for verb, *_ in expected]
    assert seen == expected


def test_a_verb_on_a_task_type_answers_in_json(place, answer):
    assert answer("pause-type", "resize") == {"type": "resize", "done": "paused"}
    assert place.type("resize").paused
    assert answer("resume-type", "resize") == {"type": "resize", "done": "resumed"}
    assert not place.type("resize").paused


def test_a_verb_on_a_cron_task_answers_in_json(place, answer):
    assert answer("cron", "pause", "nightly") == {"cron": "nightly", "done": "paused"}
    assert [cron.paused for cron in place.crons()] == [True]
    assert answer("cron", "resume", "nightly") == {"cron": "nightly", "done": "resumed"}
    assert [cron.paused for cron in place.crons()] == [False]


def test_a_migration_answers_in_json(place, answer):
    assert answer("migrate") == {"schema": place.migrate(), "done": "migrated"}


def test_without_being_asked_for_json_a_verb_answers_in_a_line(place, fibflow):
    task_id = place.enqueue("resize")
    assert fibflow("pause", str(task_id)).stdout.decode() == f"pause: task {task_id}\n"
    assert fibflow("cron", "pause", "nightly").stdout.decode() == "paused: nightly\n"


def test_cancelling_a_task_leaves_what_it_spawned_as_it_is(place, fibflow, workplace):
    worker_id = workplace.registered()
    row = workplace.taken(worker_id, "resize")
    ending = Ending(row.id, row.attempt, worker_id, Outcome.SUSPENDED, ended(Facts(), Outcome.SUSPENDED), children=1)
    assert workplace.database.call(record.spawn, worker_id, ending, [child("resize")]) == []
    assert fibflow("cancel", str(row.id)).returncode == 0
    (spawned,) = place.tasks(parent_id=row.id).items
    assert (place.get(row.id).status, spawned.status) == (Status.CANCELLED, Status.PENDING)
