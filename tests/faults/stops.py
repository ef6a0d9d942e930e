"""F3: workers are stopped past their lease, their work is finished elsewhere, and then they go on and write.

They are found while their handlers run, so that each verb writes late. In the first round they are kept from
hearing that they were reaped until they have written, so that all of it reaches the database; in the second, they may.
What happens to a worker that is stopped inside a transaction is the story of cuts.py.
"""

import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

import sqlalchemy as sa

from faults.course import POSTGRESQL, SQLITE, Course, Place
from faults.crew import Crew, crew
from faults.overtaken import ELSEWHERE, GATE, LATE_TIMEOUT, app
from faults.rows import Row
from faults.said import Writes, until, writes_of
from faults.verdict import completed_attempts, count_by
from faults.writes import Dump, dump
from fibflow.client import Client
from fibflow.model import NewTask
from fibflow.store.database import Session, read
from fibflow.store.tables import stale_write, task, task_final, worker

LEASE = 2.0
STOPPED = (sys.executable, "-m", "faults.stopped_worker", "faults.overtaken:app", "--lease", str(LEASE))
OTHERS = ("faults.overtaken:app", "--slots", "20", "--poll-interval", "0.2", "--heartbeat-interval", "0.5", "--lease", "30")
VERBS = ("complete", "fail", "suspend", "spawn", "progress", "checkpoint")
ALL = {*VERBS, "time_out", "interrupt"}
EACH = 3
"""Tasks for each verb, and place where its handler runs."""
PODS = ("stopped", "drained")


def on_postgresql(course: Course) -> Row:
    return _measure(course, "F3", POSTGRESQL)


def on_sqlite(course: Course) -> Row:
    return _measure(course, "F3.sqlite", SQLITE)


def _measure(course: Course, id: str, kind: str) -> Row:
    rounds = []
    for held in (True,) if course.quick else (True, False):
        with course.place(kind) as place:
            rounds.append(_round(course, place, held))
    return _row(id, course.seed, kind, rounds)


# ── one round ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one stop."""

    tasks: int
    completed: int
    twice: int
    elsewhere: int
    writes: Writes
    recorded: int
    away: float
    changed: Sequence[str]


@dataclass(frozen=True, slots=True)
class Stop:
    """Workers that will be stopped. `hold` keeps their renewals back, `gate` lets their handlers write."""

    place: Place
    workers: Crew
    hold: Path
    gate: Path
    tasks: Sequence[int]


def _round(course: Course, place: Place, held: bool) -> Round:
    with _stop(place) as stop:
        course.say(f"{place.kind}: {len(stop.tasks)} tasks run in workers that are stopped now")
        begun = time.monotonic()
        _freeze(stop, held)
        with crew(place.url, place.folder, *OTHERS) as others:
            others.start("others")
            _finish_elsewhere(stop, begun)
            before = place.database.call(dump, stop.tasks, [])
            course.say(f"{place.kind}: finished elsewhere, the stopped workers go on")
            away = time.monotonic() - begun
            _thaw(stop, held)
    return _judge(stop, away, before)


@contextmanager
def _stop(place: Place) -> Iterator[Stop]:
    """Workers in which tasks of every kind run."""
    hold, gate = place.folder / "hold", place.folder / "gate"
    app.sync(place.database)
    tasks = Client(place.database).enqueue_many(_tasks())
    with crew(place.url, place.folder, "--hold", str(hold), command=STOPPED, environment={GATE: str(gate)}) as workers:
        workers.start("stopped", "--types", "late,late_in_thread,endless_until_timeout")
        workers.start("drained", "--types", "endless", "--drain", "0")
        until(lambda: _states(place)["running"] == len(tasks), 15, "the tasks to run in the workers that will be stopped")
        yield Stop(place, workers, hold, gate, tasks)


def _tasks() -> list[NewTask]:
    told = [NewTask(type, {"verb": verb}) for type in ("late", "late_in_thread") for verb in VERBS]
    return [*told, NewTask("endless_until_timeout"), NewTask("endless")] * EACH


def _states(place: Place) -> Counter[str]:
    return place.database.call(count_by, task, task.c.state)


def _freeze(stop: Stop, held: bool) -> None:
    if held:
        stop.hold.touch()
    for pod in PODS:
        stop.workers.tell(pod, SIGSTOP)
        while stop.place.kind == SQLITE and _locked(stop.place.folder):
            stop.workers.tell(pod, SIGCONT)
            time.sleep(0.01)
            stop.workers.tell(pod, SIGSTOP)


def _locked(folder: Path) -> bool:
    """Whether the process was stopped inside a transaction: then nobody can write to this file, as documented."""
    with closing(sqlite3.connect(folder / "fibflow.db", timeout=0.5, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def _finish_elsewhere(stop: Stop, begun: float) -> None:
    """Until all is final, and until the handlers that wait for their timeout would have reached it."""
    until(lambda: not _states(stop.place), 60, "the others to finish the work of the stopped workers")
    time.sleep(max(begun + LATE_TIMEOUT - time.monotonic(), 0))


def _thaw(stop: Stop, held: bool) -> None:
    """Let the workers go on, until they have written, and until they are back under new ids."""
    stop.gate.touch()
    stop.workers.tell("drained", SIGTERM)
    for pod in PODS:
        stop.workers.tell(pod, SIGCONT)
    if held:
        until(lambda: writes_of(stop.workers).tried.keys() >= ALL, 30, f"late writes by {sorted(ALL)}")
        stop.hold.unlink()
    until(lambda: stop.place.database.call(identities, "stopped") == 2, 30, "the stopped worker to come back under a new id")
    until(lambda: stop.workers.running["drained"].poll() is not None, 30, "the drained worker to end")


@read
def identities(session: Session, pod: str) -> int:
    """How often workers of this pod have registered."""
    query = sa.select(sa.func.count()).select_from(worker).where(worker.c.pod_id == pod)
    return int(session.connection.execute(query).scalar_one())


def _judge(stop: Stop, away: float, before: Dump) -> Round:
    """What came of it, now that nobody writes any more."""
    database = stop.place.database
    after = database.call(dump, stop.tasks, [])
    attempts = database.call(completed_attempts)
    results = database.call(count_by, task_final, task_final.c.result)
    return Round(
        tasks=len(stop.tasks),
        completed=database.call(count_by, task_final, task_final.c.status)["completed"],
        twice=sum(number > 1 for number in attempts.values()),
        elsewhere=results[f'"{ELSEWHERE}"'],
        writes=writes_of(stop.workers),
        recorded=database.call(recorded),
        away=away,
        changed=[name for name in before if name != "workers" and before[name] != after[name]],
    )


@read
def recorded(session: Session) -> int:
    """How many stale writes the database remembers."""
    total = sa.select(sa.func.coalesce(sa.func.sum(stale_write.c.count), 0))
    return int(session.connection.execute(total).scalar_one())


# ── the row ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(id: str, seed: int, kind: str, rounds: Sequence[Round]) -> Row:
    tried = sum((each.writes.tried for each in rounds), Counter[str]())
    refused = sum((each.writes.refused for each in rounds), Counter[str]())
    figures = {
        "recorded": sum(each.recorded for each in rounds),
        "unanswered": sum(each.writes.unanswered for each in rounds),
        "stopped for s": max(each.away for each in rounds),
        "tried by verb": dict(tried),
    }
    return Row(
        id,
        f"stopped past the lease, then {len(ALL)} verbs",
        kind,
        seed,
        [*(fault for each in rounds for fault in _faults(each)), *_untried(rounds[0])],
        lost=sum(each.tasks - each.completed for each in rounds),
        twice=sum(each.twice for each in rounds),
        stale_tried=tried.total(),
        stale_refused=refused.total(),
        figures=figures,
    )


def _untried(held: Round) -> list[str]:
    return [f"no late {verb} reached the database" for verb in sorted(ALL - held.writes.tried.keys())]


def _faults(seen: Round) -> list[str]:
    answered, unanswered = seen.writes.refused.total(), seen.writes.unanswered
    rules = {
        f"{seen.tasks - seen.completed} tasks are not completed": seen.completed == seen.tasks,
        f"{seen.twice} tasks were completed twice": seen.twice == 0,
        f"{seen.elsewhere} of {seen.tasks} results are those of the others": seen.elsewhere == seen.tasks,
        f"accepted (worker, task, fence, verb): {seen.writes.accepted}": not seen.writes.accepted,
        f"changed by late writes: {seen.changed}": not seen.changed,
        f"{answered} refused, {unanswered} unanswered, {seen.recorded} recorded": (
            answered <= seen.recorded <= answered + unanswered
        ),
    }
    return [words for words, holds in rules.items() if not holds]
