"""The demo's claims: each holds for a good run, and each is broken by the fault that it is there to find."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo_claims import Findings, History, Kill, Recovery, claims, recoveries
from fibflow.model import Attempt, Event, EventType, Outcome, Status, Task
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
KILL = Kill(LOST, at(1))
RECOVERED = row(Event, task_id=7, attempt=1, type=EventType.RECOVERED, time=at(1.5))
REPORT = Report(1, 2, 3, 4, None, [])
GOOD = Findings(
    children=[row(Task, status=Status.COMPLETED)],
    recoveries=[Recovery(KILL, RECOVERED, OTHER)],
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
        ({"recoveries": []}, "what the killed worker held was recovered"),
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
