"""Schedules: which expressions are understood, which are refused, and where their instants lie."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from fibflow.errors import InvalidInput, UnknownTaskType
from fibflow.schedule import SECOND, Schedule

HOURLY = "0 * * * *"

FORMS = {
    "*/20 * * * *": ["2026-01-01 00:20", "2026-01-01 00:40"],
    "5 4 * * *": ["2026-01-01 04:05", "2026-01-02 04:05"],
    "30 5 4 * * *": ["2026-01-01 04:05:30", "2026-01-02 04:05:30"],
    "0,30 1-2 * * *": ["2026-01-01 01:00", "2026-01-01 01:30", "2026-01-01 02:00"],
    "0 8-18/5 * * *": ["2026-01-01 08:00", "2026-01-01 13:00", "2026-01-01 18:00"],
    "0 0 1 MAR,jul *": ["2026-03-01", "2026-07-01"],
    "0 0 * * Mon-tue": ["2026-01-05", "2026-01-06", "2026-01-12"],
    "0 0 * * 0": ["2026-01-04", "2026-01-11"],
    "0 0 * * 7": ["2026-01-04", "2026-01-11"],
    "0 0 L * *": ["2026-01-31", "2026-02-28"],
    "0 0 * * 5L": ["2026-01-30", "2026-02-27"],
    "@yearly": ["2027-01-01", "2028-01-01"],
    "@monthly": ["2026-02-01", "2026-03-01"],
    "@weekly": ["2026-01-04", "2026-01-11"],
    "@daily": ["2026-01-02", "2026-01-03"],
    "@hourly": ["2026-01-01 01:00", "2026-01-01 02:00"],
    "0 0 13 * 5": ["2026-01-02", "2026-01-09", "2026-01-13"],
}
"""What each form gives from the start of the year on, a Thursday; the last one: either day matches."""
START = datetime(2026, 1, 1, tzinfo=UTC)


def instants(text, count):
    instant, found = round(START.timestamp()) * SECOND, []
    for _ in range(count):
        instant = Schedule.parse(text).next_after(instant)
        found.append(datetime.fromtimestamp(instant / SECOND, UTC))
    return found


def test_every_documented_form_of_expression_is_understood(hand):
    for number, (text, expected) in enumerate(FORMS.items()):
        wanted = [datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in expected]
        assert instants(text, len(wanted)) == wanted, text
        hand.client.put_cron(f"cron_{number}", "work", text)
    assert {declared.schedule for declared in hand.client.crons()} == set(FORMS)


REFUSED = [
    "", "5", "* *", "* * * *", "* * * * * * *", "61 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
    "* * * * 8", "*/0 * * * *", "5-1-2 * * * *", "x * * * *", "0 0 15W * *", "0 0 LW * *", "0 0 ? * *", "0 0 * * 5#3",
    "@sometimes", "0 0 31 2 *", "0 0 30 FEB *", "0 0 31 4,6,9,11 *",
]  # fmt: skip


def test_a_cron_task_is_checked_when_declared(hand):
    with pytest.raises(UnknownTaskType, match="nobody"):
        hand.client.put_cron("report", "nobody", HOURLY)
    for text in REFUSED:
        with pytest.raises(InvalidInput) as refusal:
            hand.client.put_cron("report", "work", text)
        assert refusal.value.field == "schedule"
        assert "write" in str(refusal.value) or "correct" in str(refusal.value), "the way out"
    for wrong in (None, 5, ["@daily"]):
        with pytest.raises(InvalidInput, match="schedule"):
            hand.client.put_cron("report", "work", wrong)
    wrongs = {"name": "", "payload": {1, 2}, "tag": "", "concurrency_policy": "Perhaps", "missed_run_policy": "x",
              "pause_on_failure": "yes", "suspended": 1}  # fmt: skip
    for field, value in wrongs.items():
        with pytest.raises(InvalidInput, match=field):
            hand.client.put_cron(**{"name": "report", "type": "work", "schedule": HOURLY} | {field: value})
    assert hand.client.crons() == []


def test_instants_are_utc_on_every_machine(hand, monkeypatch):
    try:
        for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert instants("0 3 * * *", 2) == [START + timedelta(hours=3), START + timedelta(hours=27)]
            hand.client.put_cron("nightly", "work", "0 3 * * *")
            (declared,) = hand.client.crons()
            following = declared.next_at.astimezone(UTC)
            assert (following.hour, following.minute, following.second) == (3, 0, 0)
            hand.client.delete_cron("nightly")
    finally:
        monkeypatch.undo()
        time.tzset()
