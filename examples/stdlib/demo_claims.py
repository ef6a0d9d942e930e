"""What must be true when the demo is over, each as a sentence and whether it holds.

Pure: from rows that were read to claims. Reading them is demo.py's part, showing them demo_screen.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fibflow.model import Attempt, Event, EventType, Outcome, Status, Task, TaskId, WorkerId
from fibflow.records import Tick, Worker
from inventory import Report

PERIOD = timedelta(seconds=2)
"""Between two ticks, as manifests/crontask.yaml has it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence about the run, whether it holds, and what was found."""

    sentence: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt at a task, and what people call the task."""

    task_id: TaskId
    attempt: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (task {self.task_id})"


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed with SIGKILL, when, and what it held as it was last seen."""

    worker: Worker
    time: datetime
    held: Sequence[Held]


@dataclass(frozen=True, slots=True)
class Recovery:
    """A task that a killed worker held, and the worker that took it back."""

    kill: Kill
    event: Event
    recovered_by: Worker | None

    @property
    def after(self) -> timedelta:
        return self.event.time - self.kill.time

    @property
    def cause(self) -> str:
        return str((self.event.metadata or {}).get("cause") or self.event.message or "not told")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an attempt that a killed worker held: it was taken back, or it ended by itself."""

    held: Held
    kill: Kill
    attempt: Attempt | None
    recovery: Recovery | None

    @property
    def ended(self) -> bool:
        """Whether it had an outcome of its own."""
        return self.attempt is not None and self.attempt.outcome not in (None, Outcome.INTERRUPTED)

    def __str__(self) -> str:
        if self.recovery is not None:
            return f"{self.held} was recovered after {self.recovery.after.total_seconds():.2f} s"
        if self.attempt is None or self.attempt.ended_at is None or not self.ended:
            return f"{self.held} was lost"
        when = "had been settled when the kill came" if self.attempt.ended_at <= self.kill.time else "was settled since"
        return f"{self.held} {when} ({self.attempt.outcome})"


@dataclass(frozen=True, slots=True)
class History:
    """A package by its name, and the attempts at it in their order."""

    package: str
    attempts: Sequence[Attempt]


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was read when the workflow had completed."""

    children: Sequence[Task]
    recoveries: Sequence[Recovery]
    fates: Sequence[Fate]
    failing: History
    hanging: History
    ticks: Sequence[Tick]
    report: Report
    direct: Report


def claims(found: Findings) -> Sequence[Claim]:
    """Everything that the demo promises, in the order it is shown."""
    return [
        _every_child_completed(found.children),
        _nothing_lost(found.recoveries, found.fates),
        _once(found.failing, Outcome.FAILED, "failed once, was retried and completed"),
        _once(found.hanging, Outcome.TIMEOUT, "timed out once, was retried and completed"),
        _every_instant_decided_once(found.ticks),
        _same_report(found.report, found.direct),
    ]


def recoveries(
    kill: Kill, events: Sequence[Event], attempts: Sequence[Attempt], workers: Mapping[WorkerId, Worker]
) -> Sequence[Recovery]:
    """Which of the killed worker's attempts were taken back, by whom, how long after the kill."""
    lost = {
        (attempt.task_id, attempt.attempt): attempt
        for attempt in attempts
        if attempt.worker_id == kill.worker.id and attempt.outcome is Outcome.INTERRUPTED
    }
    return [
        Recovery(kill, event, _worker(workers, lost[key].ended_by))
        for event in events
        if event.type is EventType.RECOVERED and (key := (event.task_id, event.attempt)) in lost
    ]


def fates(kill: Kill, attempts: Sequence[Attempt], recoveries: Sequence[Recovery]) -> Sequence[Fate]:
    """What became of each attempt that the killed worker was seen to hold, and of those that it had claimed since."""
    by_key = {(attempt.task_id, attempt.attempt): attempt for attempt in attempts}
    taken_back = {(recovery.event.task_id, recovery.event.attempt): recovery for recovery in recoveries}
    seen = {(held.task_id, held.attempt): held for held in kill.held}
    since = {key: Held(*key, "what it had claimed meanwhile") for key in taken_back if key not in seen}
    return [Fate(held, kill, by_key.get(key), taken_back.get(key)) for key, held in {**seen, **since}.items()]


def _worker(workers: Mapping[WorkerId, Worker], id: WorkerId | None) -> Worker | None:
    return None if id is None else workers.get(id)


def _every_child_completed(children: Sequence[Task]) -> Claim:
    done = sum(child.status is Status.COMPLETED for child in children)
    return Claim("every package was counted", bool(children) and done == len(children), f"{done} of {len(children)} completed")


def _nothing_lost(recoveries: Sequence[Recovery], fates: Sequence[Fate]) -> Claim:
    holds = bool(recoveries) and all(fate.recovery is not None or fate.ended for fate in fates)
    found = "; ".join(str(fate) for fate in fates) or "it held nothing"
    return Claim("nothing that the killed worker held was lost, and something was recovered", holds, found)


def _once(history: History, outcome: Outcome, sentence: str) -> Claim:
    # An attempt that was lost with the killed worker counts for nothing here, as it counts for nothing there.
    outcomes = [attempt.outcome for attempt in history.attempts if attempt.outcome is not Outcome.INTERRUPTED]
    found = f"{history.package} " + ", then ".join(str(each) for each in outcomes)
    return Claim(f"one package {sentence}", outcomes == [outcome, Outcome.COMPLETED], found)


def _every_instant_decided_once(ticks: Sequence[Tick]) -> Claim:
    sentence = "every cron instant was decided exactly once, and what was decided ran"
    decided = sorted(instant for tick in ticks for instant in _instants(tick))
    if not decided:
        return Claim(sentence, False, "no tick at all")
    wanted = [decided[0] + PERIOD * n for n in range(len(decided))]
    found = f"{len(decided)} instants from {decided[0]:%H:%M:%S} to {decided[-1]:%H:%M:%S}"
    return Claim(sentence, decided == wanted, found)


def _instants(tick: Tick) -> Iterator[datetime]:
    """A tick stands for one instant, or for a run of them that was missed together."""
    instant = tick.instant
    while instant <= tick.through:
        yield instant
        instant += PERIOD


def _same_report(report: Report, direct: Report) -> Claim:
    found = f"{report.modules} modules, {report.functions:,} functions, {report.lines:,} lines"
    if report != direct:
        found += f", but directly {direct.modules}, {direct.functions}, {direct.lines}"
    return Claim("the report is what a direct computation in one process gives", report == direct, found)
