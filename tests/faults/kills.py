"""F1 and F2: once a second a worker that holds running tasks is killed, and starts again under the same pod id.

A recovery is over when the last task of the killed worker is due or running again, by the events of the database, whose
clock is this machine's. The new process is up when all that it is made of has been loaded and it goes to the database;
from there recoveries are judged. What they took since the process was started, and since it stood registered, is told too.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

import sqlalchemy as sa

from faults.course import POSTGRESQL, SQLITE, Course, Place
from faults.crew import Crew, crew
from faults.load import SAY_UP, Plan, app, plan
from faults.rows import Row
from faults.verdict import Recovery, count_by, recoveries, verdict
from fibflow.client import Client
from fibflow.store.database import Database, Session, read
from fibflow.store.tables import task, worker

BETWEEN = 1.0
"""Seconds from one kill to the next."""
ALL_KILLS = 20
"""With fewer, the run is a shortened one, beside other tests: a recovery may then take as long as to start a process."""
LONGEST_MEDIAN = 1.0
"""Seconds that half of the recoveries may take once the new process is up."""
LONGEST = 400.0
"""Seconds after which what is not final counts as lost."""


@dataclass(frozen=True, slots=True)
class Size:
    tasks: int
    kills: int
    slots: int
    workers: int = 4

    @property
    def recoveries(self) -> int:
        """So many of the kills must lead to one, at the least."""
        return self.kills * 3 // 4


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed, what it held, its successor's process and its start, and what still waited then."""

    worker_id: int
    held: int
    successor: int
    started_at: int
    queued: int


@dataclass(frozen=True, slots=True)
class Run:
    """The kills, when each process was up, and what was not as it should be."""

    kills: Sequence[Kill]
    up: Mapping[int, int]
    broken: Sequence[str]


def on_postgresql(course: Course) -> Row:
    return _measure(course, "F1", POSTGRESQL, Size(600, 3, 13, workers=3) if course.quick else Size(20_000, 20, 40))


def on_sqlite(course: Course) -> Row:
    return _measure(course, "F2", SQLITE, Size(200, 3, 5, workers=3) if course.quick else Size(2_000, 20, 5))


def _measure(course: Course, id: str, kind: str, size: Size) -> Row:
    random = Random(f"{course.seed} {id}")
    with course.place(kind) as place:
        planned = plan(random, size.tasks, spread=size.kills)
        app.sync(place.database)
        Client(place.database).enqueue_many(planned.tasks)
        begun = time.monotonic()
        run = _run(course, place, random, size)
        return _row(id, course.seed, place, planned, size, run, time.monotonic() - begun)


def _run(course: Course, place: Place, random: Random, size: Size) -> Run:
    options = ("faults.load:app", "--slots", str(size.slots), "--poll-interval", "0.5")
    with crew(place.url, place.folder, *options, environment={SAY_UP: "yes"}) as workers:
        for number in range(size.workers):
            workers.start(f"pod-{number}")
        kills = _kill_in_turn(course, place.database, workers, random, size.kills)
        _wait_for_the_end(course, place.database)
        up = {int(pid): int(at) for pid, at in workers.said(r"up: (\d+) at (\d+)")}
        return Run(kills, up, workers.ended())


def _kill_in_turn(course: Course, database: Database, workers: Crew, random: Random, number: int) -> list[Kill]:
    kills: list[Kill] = []
    due = time.monotonic()
    while len(kills) < number:
        time.sleep(max(due - time.monotonic(), 0.02))
        if holders := _alive(database, workers):
            kills.append(_kill(database, workers, *random.choice(holders)))
            due = max(due, time.monotonic() - BETWEEN / 2) + BETWEEN
            course.say(f"kill {len(kills)} of {number}: worker {kills[-1].worker_id} held {kills[-1].held}")
    return kills


def _alive(database: Database, workers: Crew) -> list[tuple[int, str, int]]:
    """The workers that run something: id, pod, and how much. Whoever was killed stays active until its successor comes."""
    pids = {process.pid for process in workers.running.values()}
    return [(id, pod, number) for id, pod, pid, number in database.call(holding) if pid in pids]


@read
def holding(session: Session) -> list[tuple[int, str, int, int]]:
    """Active workers with running tasks: id, pod, process, and how many."""
    key = (worker.c.id, worker.c.pod_id, worker.c.pid)
    query = (
        sa.select(*key, sa.func.count())
        .join(task, sa.and_(task.c.worker_id == worker.c.id, task.c.state == sa.text("'running'")))
        .where(worker.c.status == "active")
        .group_by(*key)
        .order_by(worker.c.id)
    )
    return [(id, pod, pid, number) for id, pod, pid, number in session.connection.execute(query)]


def _kill(database: Database, workers: Crew, worker_id: int, pod: str, held: int) -> Kill:
    workers.kill(pod)
    started_at = workers.start(pod)
    states = database.call(count_by, task, task.c.state)
    return Kill(worker_id, held, workers.running[pod].pid, started_at, states["ready"] + states["scheduled"])


def _wait_for_the_end(course: Course, database: Database) -> None:
    deadline = time.monotonic() + LONGEST
    told = 0.0
    while (left := database.call(count_by, task, task.c.state)) and time.monotonic() < deadline:
        if time.monotonic() - told > 5:
            told = time.monotonic()
            course.say(f"left: {dict(left)}")
        time.sleep(0.2)


# ── the row ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(id: str, seed: int, place: Place, planned: Plan, size: Size, run: Run, took: float) -> Row:
    judged = verdict(place.database, planned)
    found = place.database.call(recoveries)
    pairs = [(kill, found[kill.worker_id]) for kill in run.kills if kill.worker_id in found]
    figures = _figures(run, pairs) | {
        "spawns": judged.spawns,
        "retries": judged.retries,
        "seconds": took,
        "load": os.getloadavg()[0],
    }
    return Row(
        id,
        f"{size.tasks:,} tasks, {size.workers} workers, one killed every second",
        place.kind,
        seed,
        [*judged.broken, *run.broken, *_faults(size, len(pairs), figures)],
        lost=judged.lost,
        twice=judged.twice,
        kills=len(run.kills),
        recoveries=len(pairs),
        figures=figures,
    )


def _figures(run: Run, pairs: Sequence[tuple[Kill, Recovery]]) -> dict[str, float]:
    since = {
        "start": [(recovery.at - kill.started_at) / 1e6 for kill, recovery in pairs],
        "up": [(recovery.at - run.up[kill.successor]) / 1e6 for kill, recovery in pairs if kill.successor in run.up],
        "registered": [(recovery.at - recovery.registered_at) / 1e6 for _, recovery in pairs],
    }
    figures: dict[str, float] = {f"median s since {name}": median(found) for name, found in since.items() if found}
    figures |= {f"longest s since {name}": max(found) for name, found in since.items() if found}
    recovered = sum(recovery.tasks for _, recovery in pairs)
    grown = sum(recovery.in_workflows for _, recovery in pairs)
    return figures | {"recovered": recovered, "of workflows": grown, "queued at the last kill": run.kills[-1].queued}


def _faults(size: Size, recovered: int, figures: Mapping[str, float]) -> list[str]:
    median_since_up = figures.get("median s since up", float("inf"))
    starting = figures.get("median s since start", 0) - median_since_up
    allowed = LONGEST_MEDIAN if size.kills >= ALL_KILLS else max(LONGEST_MEDIAN, starting)
    rules = {
        f"only {recovered} of {size.kills} kills led to a recovery": recovered >= size.recoveries,
        "nothing was queued at the last kill": figures["queued at the last kill"] > 0,
        f"the median recovery took {median_since_up:.2f} s": median_since_up <= allowed,
    }
    return [words for words, holds in rules.items() if not holds]
