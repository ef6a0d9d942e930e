"""The demo's claims: each holds for a good run, and each is broken by the fault that it is there to find."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo_claims import Fate, Findings, Held, History, Kill, Recovery, claims, fates, recoveries
from fibflow.model import Attempt, Event, EventType, Outcome, Status, Task, TaskId
from fibflow.records import Tick, Worker
from inventory import Report

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(kind: type, **fields: Any) -> Any:
    """A row in which only the named fields matter."""
    return kind(**dict.fromkeys(kind.__dataclass_fields__) | fields)  # type: ignore[attr-defined]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def tick(first: float, last: float | None = None) -> Any:
    return row(Tick, instant=at(first), through=at(first if last is None else last))


def history(*outcomes: Outcome) -> History:
    return History("cats", [row(Attempt, outcome=outcome) for outcome in outcomes])


LOST, OTHER = row(Worker, id=1, pod_id="stdlib-0"), row(Worker, id=2, pod_id="stdlib-1")
WORKERS: Any = {1: LOST, 2: OTHER}
CATS, DOGS = Held(TaskId(7), 1, "cats"), Held(TaskId(8), 2, "dogs")
KILL = Kill(LOST, at(1), [CATS, DOGS])
RECOVERED = row(Event, task_id=7, attempt=1, type=EventType.RECOVERED, time=at(1.5))
TAKEN_BACK = Recovery(KILL, RECOVERED, OTHER)
REPORT = Report(1, 2, 3, 4, None, [])
GOOD = Findings(
    children=[row(Task, status=Status.COMPLETED)],
    recoveries=[TAKEN_BACK],
    fates=[Fate(CATS, KILL, None, TAKEN_BACK)],
    failing=history(Outcome.FAILED, Outcome.COMPLETED),
    hanging=history(Outcome.INTERRUPTED, Outcome.TIMEOUT, Outcome.COMPLETED),
    ticks=[tick(0), tick(2, 4), tick(6)],
    report=REPORT,
    direct=REPORT,
)


def broken(found: Findings) -> list[str]:
    return [claim.sentence for claim in claims(found) if not claim.holds]


def test_a_good_run_breaks_no_claim():
    assert broken(GOOD) == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"children": []}, "every package was counted"),
        ({"children": [row(Task, status=Status.PERMANENTLY_FAILED)]}, "every package was counted"),
        ({"recoveries": []}, "nothing that the killed worker held was lost, and something was recovered"),
        (
            {"fates": [Fate(DOGS, KILL, row(Attempt, outcome=Outcome.INTERRUPTED, ended_at=at(1)), None)]},
            "nothing that the killed worker held was lost, and something was recovered",
        ),
        (
            {"fates": [Fate(DOGS, KILL, row(Attempt), None)]},
            "nothing that the killed worker held was lost, and something was recovered",
        ),
        ({"failing": history(Outcome.COMPLETED)}, "one package failed once, was retried and completed"),
        ({"hanging": history(Outcome.TIMEOUT)}, "one package timed out once, was retried and completed"),
        ({"ticks": []}, "every cron instant was decided exactly once, and what was decided ran"),
        ({"ticks": [tick(0), tick(4)]}, "every cron instant was decided exactly once, and what was decided ran"),
        ({"ticks": [tick(0), tick(0, 2)]}, "every cron instant was decided exactly once, and what was decided ran"),
        ({"direct": replace(REPORT, lines=5)}, "the report is what a direct computation in one process gives"),
    ],
)
def test_a_fault_breaks_its_claim_alone(fault: dict[str, Any], sentence: str):
    assert broken(replace(GOOD, **fault)) == [sentence]


def test_a_recovery_names_who_lost_the_task_and_who_took_it_back_after_how_long():
    lost = row(Attempt, task_id=7, attempt=1, worker_id=1, outcome=Outcome.INTERRUPTED, ended_by=2)
    (found,) = recoveries(KILL, [RECOVERED], [lost], WORKERS)
    assert (found.kill.worker, found.recovered_by, found.after) == (LOST, OTHER, timedelta(seconds=0.5))


def test_what_another_worker_lost_is_not_the_killed_ones():
    lost = row(Attempt, task_id=7, attempt=1, worker_id=2, outcome=Outcome.INTERRUPTED, ended_by=1)
    assert recoveries(KILL, [RECOVERED], [lost], WORKERS) == []


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"outcome": Outcome.COMPLETED, "ended_at": at(0.9)}, "dogs (task 8) had been settled when the kill came (completed)"),
        ({"outcome": Outcome.TIMEOUT, "ended_at": at(3)}, "dogs (task 8) was settled since (timeout)"),
        ({"outcome": Outcome.INTERRUPTED, "ended_at": at(3)}, "dogs (task 8) was lost"),
        ({}, "dogs (task 8) was lost"),
    ],
)
def test_what_became_of_everything_that_the_killed_worker_held_is_told(ended: dict[str, Any], said: str):
    attempts = [row(Attempt, task_id=7, attempt=1), row(Attempt, task_id=8, attempt=2, **ended)]
    assert [str(fate) for fate in fates(KILL, attempts, [TAKEN_BACK])] == ["cats (task 7) was recovered after 0.50 s", said]


def test_what_the_killed_worker_claimed_after_it_was_looked_at_is_told_too():
    event = row(Event, task_id=9, attempt=1, type=EventType.RECOVERED, time=at(2))
    found = fates(replace(KILL, held=[]), [], [Recovery(KILL, event, OTHER)])
    assert [str(fate) for fate in found] == ["what it had claimed meanwhile (task 9) was recovered after 1.00 s"]
