"""F3, the other stop: a process falls silent between two statements of its settle, with rows locked (PostgreSQL).

Each of some workers stops itself at another point of a transaction that ends an attempt: the transaction completes a child
whose parent waits, fails a task, or spawns. Others must go on all the same. The server ends the silent session, and with
it what it had begun; then the others take over and finish the work. The stopped workers go on at last, try once more, and
are refused. Measured is how long the others had to wait, for work of their own and for the rows that were locked.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT

import sqlalchemy as sa

from faults.course import POSTGRESQL, Course, Place
from faults.crew import COMMAND, Crew, crew
from faults.overtaken import app
from faults.rows import Row
from faults.said import Writes, until, writes_of
from faults.stops import OTHERS, STOPPED, recorded
from faults.verdict import completed_attempts, count_by, resumes, spawns_of
from fibflow.client import Client
from fibflow.model import NewTask
from fibflow.store.database import Session, read
from fibflow.store.tables import event, task, task_final, task_type, worker


@dataclass(frozen=True, slots=True)
class Cut:
    """What a handler ends with, and after how many statements of that settle its worker stops; 0: before COMMIT."""

    verb: str
    after: int
    number: int

    @property
    def pod(self) -> str:
        return self.type

    @property
    def type(self) -> str:
        return f"cut_{self.number}"


POINTS = [
    Cut("complete", 2, 0),
    Cut("fail", 5, 1),
    Cut("spawn", 0, 2),
    Cut("complete", 1, 3),
    Cut("complete", 0, 4),
    Cut("spawn", 5, 5),
]
EACH = 50
"""Tasks without a locked row that others are given meanwhile, of each of two types."""
IDLE = 10.0
"""Seconds after which the server ends a session that is silent inside a transaction: the programs' own setting."""
IDLE_IN_A_QUICK_RUN = 2.0
BESIDE = ("--slots", "20", "--poll-interval", "0.2", "--heartbeat-interval", "0.5", "--lease", "30")
AT_ONCE = 3.0
"""Seconds in which work is done whose rows nobody has locked."""
SWEEP = 3.0
"""Seconds in which the others must have seen it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Seconds that others needed for what has no locked row: workers that do nothing else, and those that also settle a
    sibling of what is locked. And seconds until each locked row came back, since its worker had stopped.
    """

    strangers: float
    relatives: float
    locked: Sequence[float]
    writes: Writes


def measure(course: Course) -> Row:
    idle, points = (IDLE_IN_A_QUICK_RUN, POINTS[:3]) if course.quick else (IDLE, POINTS)
    with course.place(POSTGRESQL) as place:
        url = f"{place.url}?options=-c%20idle_in_transaction_session_timeout%3D{idle * 1000:.0f}"
        app.sync(place.database)
        with crew(url, place.folder, *BESIDE, command=(*COMMAND, "faults.overtaken:relatives")) as relatives:
            relatives.start("relatives")
            with crew(url, place.folder, *BESIDE, command=(*COMMAND, "faults.overtaken:strangers")) as strangers:
                strangers.start("strangers")
                seen = _play(course, place, url, points)
        return _row(course, place, seen, idle, len(points))


def _play(course: Course, place: Place, url: str, points: Sequence[Cut]) -> Seen:
    hold = place.folder / "hold"
    with crew(url, place.folder, "--hold", str(hold), command=STOPPED) as stopped:
        stops = _cut_all(place, stopped, points)
        course.say(f"{len(stops)} workers stopped themselves inside a transaction")
        hold.touch()
        waits = _waits(place)
        course.say(f"others went on: {waits['unrelated']:.2f} s for strangers, {waits['other']:.2f} s for relatives")
        with crew(url, place.folder, *OTHERS) as others:
            others.start("others")
            until(lambda: not place.database.call(count_by, task, task.c.state), 120, "the others to finish everything")
            recovered = place.database.call(recovered_at)
            locked = [(recovered[point.type] - at) / 1e6 for point, at in stops.items()]
            course.say(f"locked rows came back after {min(locked):.1f} to {max(locked):.1f} s; the stopped go on")
            _thaw(stopped, hold, points)
    return Seen(waits["unrelated"], waits["other"], locked, writes_of(stopped))


def _cut_all(place: Place, stopped: Crew, points: Sequence[Cut]) -> dict[Cut, int]:
    """Let every worker stop itself; when each did, in microseconds."""
    for point in points:
        stopped.start(point.pod, "--types", point.type, "--cut", str(point.after))
    until(lambda: len(place.database.call(pods)) == len(points) + 2, 60, "the workers to register")
    parents = [NewTask("parent", {"number": point.number, "verb": point.verb}) for point in points]
    Client(place.database).enqueue_many(parents)
    until(lambda: len(_stops(stopped, points)) == len(points), 60, "the workers to stop themselves")
    return _stops(stopped, points)


@read
def pods(session: Session) -> set[str]:
    return set(session.connection.execute(sa.select(worker.c.pod_id)).scalars())


def _stops(stopped: Crew, points: Sequence[Cut]) -> dict[Cut, int]:
    found = {point: stopped.said(r"stops at (\d+)\n", point.pod) for point in points}
    return {point: int(at[0]) for point, at in found.items() if at}


def _waits(place: Place) -> dict[str, float]:
    """Seconds until all of the new tasks of a type were final."""
    client = Client(place.database)
    begun = place.database.call(now_there)
    ids = {type: client.enqueue_many([NewTask(type, tag="meanwhile")] * EACH) for type in ("unrelated", "other")}
    until(lambda: all(len(place.database.call(finished_at, mine)) == EACH for mine in ids.values()), 60, "others to go on")
    return {type: (max(place.database.call(finished_at, mine)) - begun) / 1e6 for type, mine in ids.items()}


@read
def now_there(session: Session) -> int:
    return session.now()


@read
def finished_at(session: Session, tasks: Sequence[int]) -> list[int]:
    return list(session.connection.execute(sa.select(task_final.c.finished_at).where(task_final.c.id.in_(tasks))).scalars())


@read
def recovered_at(session: Session) -> dict[str, int]:
    """When the tasks of each type were taken back from their workers."""
    both = sa.select(task_type.c.name, event.c.at).join(task_final, task_final.c.type_id == task_type.c.id)
    query = both.join(event, sa.and_(event.c.task_id == task_final.c.id, event.c.type == "task_recovered"))
    return {name: at for name, at in session.connection.execute(query)}


def _thaw(stopped: Crew, hold: Path, points: Sequence[Cut]) -> None:
    """Let the stopped go on, until each was cut off, tried again and was refused; then they may hear of it."""
    for point in points:
        stopped.tell(point.pod, SIGCONT)
    until(lambda: writes_of(stopped).unanswered >= len(points), 30, "the stopped workers to see that they were cut off")
    until(lambda: writes_of(stopped).refused.total() >= len(points), 30, "the stopped workers to try again")
    hold.unlink()


# ── the row ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(course: Course, place: Place, seen: Seen, idle: float, points: int) -> Row:
    expected = 3 * points + 2 * EACH
    statuses = place.database.call(count_by, task_final, task_final.c.status)
    twice = sum(number > 1 for number in place.database.call(completed_attempts).values())
    kept = place.database.call(recorded)
    spawns = place.database.call(spawns_of)
    rules = {
        f"{dict(statuses)} instead of {expected} completed tasks": statuses == Counter({"completed": expected}),
        f"{twice} tasks were completed twice": twice == 0,
        f"accepted (worker, task, fence, verb): {seen.writes.accepted}": not seen.writes.accepted,
        f"{seen.writes.refused.total()} refused, but {kept} recorded": seen.writes.refused.total() == kept,
        f"{seen.writes.unanswered} writes were cut off": seen.writes.unanswered >= points,
        "not every parent was resumed once": place.database.call(resumes) == Counter({parent: 1 for parent in spawns}),
        f"{len(spawns)} tasks spawned": len(spawns) == points,
        f"strangers waited {seen.strangers:.1f} s": seen.strangers < AT_ONCE,
        f"their siblings' workers waited {seen.relatives:.1f} s": seen.relatives <= idle + SWEEP,
        f"rows stayed locked for {max(seen.locked):.1f} s": max(seen.locked) <= idle + SWEEP,
    }
    figures = {
        "strangers s": seen.strangers,
        "relatives s": seen.relatives,
        "locked s": max(seen.locked),
        "cut off": seen.writes.unanswered,
        "recorded": kept,
    }
    return Row(
        "F3.settle",
        f"stopped inside a settle, at {points} points",
        place.kind,
        course.seed,
        [words for words, holds in rules.items() if not holds],
        lost=expected - statuses["completed"],
        twice=twice,
        stale_tried=seen.writes.tried.total(),
        stale_refused=seen.writes.refused.total(),
        figures=figures,
    )
