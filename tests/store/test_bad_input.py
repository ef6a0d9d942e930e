"""Bad input to the client, on both databases: the error names field, value and way out, and nothing is stored."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import pytest
import sqlalchemy as sa

from fibflow import Client, NewTask, Retry
from fibflow.errors import InvalidInput, shown
from fibflow.model import Options
from fibflow.store.cron import CronDeclaration, put_cron
from fibflow.store.tables import metadata
from fibflow.store.tasktypes import Declaration

DEEP = json.loads("[" * 500 + "]" * 500)


@dataclass
class Measure:
    value: float


class Odd(Enum):
    NAN = float("nan")


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no")


TASKS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a type that is no text": ({"type": 5}, "type", "is not text"),
    "an empty type": ({"type": " "}, "type", "give it a value"),
    "a type with a NUL": ({"type": "a\0"}, "type", "remove it"),
    "a type with half a surrogate pair": ({"type": "a\ud800"}, "type", "remove it"),
    "a long type": ({"type": "x" * 254}, "type", "is longer than 253 characters"),
    "a tag with a NUL": ({"tag": "a\0"}, "tag", "remove it"),
    "a tag with half a surrogate pair": ({"tag": "\udfff"}, "tag", "remove it"),
    "an empty tag": ({"tag": ""}, "tag", "give it a value"),
    "an object": ({"payload": object()}, "payload", "use dicts with text keys, lists, text, numbers"),
    "an object that cannot be shown": ({"payload": Unspeakable()}, "payload", "use dicts with text keys"),
    "a set": ({"payload": {"a": {1}}}, "payload", "use dicts with text keys"),
    "bytes": ({"payload": b"a"}, "payload", "use dicts with text keys"),
    "a key that is no text": ({"payload": {1: 2}}, "payload", "use dicts with text keys"),
    "a number of more than 64 bits": ({"payload": 1 << 64}, "payload", "is not JSON"),
    "NaN": ({"payload": {"a": [float("nan")]}}, "payload", "use null or text"),
    "infinity": ({"payload": float("-inf")}, "payload", "use null or text"),
    "NaN in a dataclass": ({"payload": Measure(float("nan"))}, "payload", "use null or text"),
    "NaN in an enum": ({"payload": [Odd.NAN]}, "payload", "use null or text"),
    "a NUL": ({"payload": {"a": {"b": "\0"}}}, "payload", "remove it"),
    "a NUL in a key": ({"payload": {"a\0": 1}}, "payload", "remove it"),
    "a NUL in a dataclass": ({"payload": Measure("\0")}, "payload", "remove it"),  # type: ignore[arg-type]
    "half a surrogate pair": ({"payload": {"a": "\ud800"}}, "payload", "is not JSON"),
    "what is nested too deep": ({"payload": DEEP}, "payload", "is nested deeper than 254 levels"),
    "a payload above its bound": ({"payload": "x" * (1 << 20)}, "payload", "store it elsewhere and pass a reference"),
    "a negative delay": ({"delay": -1}, "delay", "is not between 0 and"),
    "a delay that is no number": ({"delay": "5"}, "delay", "is not a number"),
    "a delay without end": ({"delay": float("inf")}, "delay", "is not a number"),
    "a delay beyond all floats": ({"delay": 10**400}, "delay", "is not between 0 and"),
    "a delay that is a flag": ({"delay": True}, "delay", "is not a number"),
    "a tag that is no text": ({"tag": 5}, "tag", "is not text"),
    "no type": ({"type": None}, "type", "is not text"),
    "a moment as text": ({"run_at": "2030-01-01"}, "run_at", "use datetime.now(UTC)"),
    "a moment as a number": ({"run_at": 1893456000}, "run_at", "use datetime.now(UTC)"),
    "a moment without a zone": ({"run_at": datetime(2030, 1, 1)}, "run_at", "use datetime.now(UTC)"),
    "a negative timeout": ({"timeout": -1}, "timeout", "is not between 0.001 and"),
    "no time": ({"timeout": 0}, "timeout", "is not between 0.001 and"),
    "negative attempts": ({"max_attempts": -1}, "max_attempts", "is not between 1 and"),
    "half an attempt": ({"max_attempts": 1.5}, "max_attempts", "is not a whole number"),
    "a negative backoff": ({"backoff": -0.1}, "backoff", "is not between 0 and"),
    "a backoff that shrinks": ({"backoff_factor": 0.5}, "backoff_factor", "is not between 1 and"),
    "a negative bound": ({"max_backoff": -1}, "max_backoff", "is not between 0 and"),
    "a priority that is too low": ({"priority": -21}, "priority", "is not between -20 and 20"),
    "a priority that is no number": ({"priority": True}, "priority", "is not a whole number"),
}


@pytest.fixture
def client(database):
    client = Client(database)
    client.declare_types([Declaration("work")])
    return client


def content(database):
    """Every row of every table."""
    with database.engine.connect() as connection:
        return {table.name: connection.execute(sa.select(table)).all() for table in metadata.sorted_tables}


def test_a_task_with_a_bad_field_is_refused_and_not_stored(client):
    before = content(client.database)
    for case, (given, field, way_out) in TASKS.items():
        with pytest.raises(InvalidInput) as refused:
            client.enqueue(**{"type": "work", **given})
        assert refused.value.field == field, case
        message = str(refused.value)
        assert message.startswith((f"{field}: {shown(given[field])} ", f"{field}: '1048578 bytes' ")), case
        assert way_out in message, case
        assert "\n" not in message, case
    assert content(client.database) == before


def test_a_bad_task_among_good_ones_stores_none(client):
    good = NewTask("work")
    bad_ones = (
        NewTask("work", float("nan")),
        NewTask("work", tag="\0"),
        NewTask("work", options=Options(timeout=-1)),
        NewTask("work", delay=-1),
        NewTask("work", run_at=datetime(2030, 1, 1)),
        NewTask("work\0"),
        "work",
    )
    for bad in bad_ones:
        with pytest.raises(InvalidInput):
            client.enqueue_many([good, bad, good])
    assert client.tasks().total == 0


NO_FIELDS: dict[str, Any] = {
    "type": (None, 5, b"work", ["work"]),
    "tag": (5, b"big", ["big"]),
    "options": (None, {"timeout": 5}, 5, "fast", Options),
    "delay": ("5", True, [1], 10**400),
    "run_at": ("2030-01-01", 1893456000, 5.0),
}


@pytest.mark.parametrize(("field", "wrong"), [(field, wrong) for field, given in NO_FIELDS.items() for wrong in given])
def test_a_field_of_another_kind_is_named_and_stores_nothing(client, field, wrong):
    with pytest.raises(InvalidInput) as refused:
        client.enqueue_many([NewTask("work"), NewTask(**{"type": "work", field: wrong})])
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: {shown(wrong)} is not ")
    assert client.tasks().total == 0


def test_options_that_are_none_say_how_to_write_them(client):
    wrong: Any = {"timeout": 5}
    for call in (
        lambda: client.enqueue_many([NewTask("work", options=wrong)]),
        lambda: client.declare_types([Declaration("other", wrong)]),
        lambda: client.database.call(put_cron, CronDeclaration("hourly", "work", "0 * * * *", options=wrong)),
    ):
        with pytest.raises(InvalidInput, match=r"options: \{'timeout': 5\} is not Options; write Options\(timeout=30\)"):
            call()


@pytest.mark.parametrize(
    ("declaration", "field"),
    [
        (Declaration("a\0"), "type"),
        (Declaration("a", Options(timeout=-1)), "timeout"),
        (Declaration("a", description="\ud800"), "description"),
        (Declaration("a", max_concurrent_tasks=-1), "max_concurrent_tasks"),
    ],
)
def test_a_bad_task_type_among_good_ones_stores_none(client, declaration, field):
    before = content(client.database)
    with pytest.raises(InvalidInput) as refused:
        client.declare_types([Declaration("good"), declaration])
    assert refused.value.field == field
    assert content(client.database) == before


def test_what_is_no_declaration_and_no_id_of_a_worker_is_told(client):
    before = content(client.database)
    with pytest.raises(InvalidInput, match=r"declaration: 'work' is not a Declaration; write Declaration\(NAME\)"):
        client.declare_types(["work"])
    for wrong in ("x", -1, 10**30, None):
        for verb in (client.pause_worker, client.resume_worker):
            with pytest.raises(InvalidInput, match="worker_id: "):
                verb(wrong)
    assert content(client.database) == before


@pytest.mark.parametrize("text", ["a\0", "\ud800", " "])
def test_a_text_that_names_or_explains_is_checked_wherever_it_is_given(client, text):
    task_id = client.enqueue("work")
    before = content(client.database)
    for call in (
        lambda: client.cancel(task_id, reason=text),
        lambda: client.pause_type(text),
        lambda: client.resume_type(text),
        lambda: client.pause_cron(text),
        lambda: client.delete_cron(text),
        lambda: client.ticks(text),
        lambda: client.tasks(tag=text),
        lambda: client.tasks(type=text),
        lambda: client.tasks(suspend_reason=text),
    ):
        with pytest.raises(InvalidInput, match=r"remove it|give it a value"):
            call()
    client.pause(task_id)
    with pytest.raises(InvalidInput, match="reason: "):
        client.resume(task_id, reason=text)
    client.resume(task_id)
    assert len(content(client.database)["task"]) == len(before["task"])


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), 1e13, "5", [1]])
def test_a_retry_is_asked_for_after_a_number_of_seconds(after):
    with pytest.raises(InvalidInput, match=r"after: .* is not a number of seconds from 0 to"):
        Retry(after=after)
