"""Conditions, and the table of reasons that is published."""

from datetime import UTC, datetime
from typing import Any

from fibflow_operator.conditions import LONGEST_MESSAGE, Finding, merged
from fibflow_operator.reasons import REASONS, Reason, Type

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BEFORE = "2025-01-01T00:00:00Z"
READY = Finding(Type.READY, True, Reason.IN_FORCE, "the spec is in force")


def status(*conditions):
    return {"conditions": list(conditions)}


def condition(type_="Ready", said="True", **more):
    return {"type": type_, "status": said, "lastTransitionTime": BEFORE, "reason": "Old", "message": "old", **more}


def test_a_new_condition_begins_now():
    (made,) = merged([READY], {}, 3, NOW)
    assert made == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "reason": "InForce",
        "message": "the spec is in force",
    }


def test_its_time_moves_only_when_its_status_does():
    (stays,) = merged([READY], status(condition()), 1, NOW)
    assert (stays["lastTransitionTime"], stays["reason"]) == (BEFORE, "InForce")
    (moves,) = merged([READY], status(condition(said="False")), 1, NOW)
    assert moves["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_what_nothing_was_found_about_goes_unless_it_is_to_be_kept():
    paused = condition("Paused")
    assert [each["type"] for each in merged([READY], status(paused), 1, NOW)] == ["Ready"]
    assert merged([READY], status(paused), 1, NOW, keep=True)[1] == paused


def test_a_status_that_somebody_filled_with_anything_is_read_with_care():
    strange: list[Any] = [None, "x", [1, None], [{}]]
    for conditions in strange:
        assert len(merged([READY], {"conditions": conditions}, 1, NOW)) == 1
    odd = status(condition(lastTransitionTime=5))
    assert merged([READY], odd, 1, NOW)[0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_a_message_is_one_line_and_not_too_long():
    (made,) = merged([Finding(Type.READY, False, Reason.INVALID_SPEC, "a\n\x1b[2J" + "b" * 5000)], {}, 1, NOW)
    assert made["message"].isprintable() and len(made["message"]) == LONGEST_MESSAGE


def test_every_reason_is_in_the_table_once_for_each_of_its_types():
    assert {meaning.reason for meaning in REASONS} == set(Reason)
    lines = [(meaning.type, meaning.reason) for meaning in REASONS]
    assert len(lines) == len(set(lines))
