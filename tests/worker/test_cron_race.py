"""Every instant of a schedule is decided once and every decided task is run, whoever races, dies, waits, or moves the clock."""

import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from cron_racer import MOMENTS
from fibflow import Client, Status
from fibflow.model import ConcurrencyPolicy, MissedRunPolicy
from fibflow.store import polling
from fibflow.store.cron import CronDeclaration, put_cron
from fibflow.store.database import Database, Session
from fibflow.store.deciding import decide_ticks
from fibflow.store.tables import task
from fibflow.store.tasktypes import Declaration, declare_types
from fix_database import move_clock
from fix_semantics import until

HERE = Path(__file__).parents[1]
SECOND = timedelta(seconds=1)
EVERY_SECOND = CronDeclaration("race", "tick", "* * * * * *", concurrency_policy=ConcurrencyPolicy.ALLOW)
HOURLY = CronDeclaration("report", "tick", "0 * * * *")
HOUR = 3600


@pytest.fixture(autouse=True)
def declared(database):
    database.call(declare_types, [Declaration("tick")])


def ticks(database, name="race"):
    return list(Client(database).ticks(name, limit=None, order="asc").items)


def cron(database, name="race"):
    return next(each for each in Client(database).crons() if each.name == name)


def covered(found, first, step=SECOND):
    """The instant behind the last one: the ticks cover all from the first on, without a gap and without an overlap."""
    expected = first
    for tick in found:
        assert tick.instant == expected
        assert tick.through >= tick.instant
        assert tick.count in (None, (tick.through - tick.instant) // step + 1)
        expected = tick.through + step
    return expected


# ── processes that race and die ───────────────────────────────────────────────────────────────────────────────────


class Racers:
    """Four pods, each kept alive by a new process; each of the first processes dies at a moment of its own."""

    def __init__(self, url, deaths):
        self.url, self.deaths, self.died = url, list(deaths), []
        self.running = {}

    def __enter__(self):
        for number in range(4):
            self._start(f"pod-{number}")
        return self

    def __exit__(self, *failure):
        for process in self.running.values():
            process.kill()
            process.wait()
            process.stdout.close()

    def tend(self):
        """Start anew what has died."""
        for pod, process in list(self.running.items()):
            if process.poll() is not None:
                assert process.returncode == -signal.SIGKILL, "it ended by itself"
                with process.stdout:
                    self.died.append(process.stdout.read())
                self._start(pod)

    def _start(self, pod):
        moment, times = self.deaths.pop() if self.deaths else ("never", 1)
        command = [sys.executable, HERE / "cron_racer.py", self.url, pod, moment, str(times)]
        self.running[pod] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_every_instant_is_decided_once_and_its_task_run_while_workers_race_and_are_killed(database, database_url):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    plan = random.Random(seed)
    deaths = [(moment, plan.randint(1, 2)) for moment in (*MOMENTS, *plan.sample(MOMENTS, 4))]
    plan.shuffle(deaths)
    client = Client(database)
    database.call(put_cron, EVERY_SECOND)
    first = cron(database).next_at
    with Racers(database_url, deaths) as racers:
        until(lambda: racers.tend() or (len(racers.died) == len(deaths) and client.ticks("race").total >= 15), 90)
        client.pause_cron("race")
        until(lambda: client.tasks(type="tick").total == client.tasks(type="tick", status="completed").total, 30)
    assert sorted(racers.died) == sorted(moment for moment, _ in deaths)
    found, done = ticks(database), client.tasks(type="tick", limit=None).items
    decided = cron(database).decided_through.replace(microsecond=0)
    assert covered(found, first) == decided + SECOND
    runs = [tick for tick in found if tick.decision == "run"]
    assert [(tick.task_id, tick.instant) for tick in runs] == [(each.id, each.tick) for each in done]
    assert {(each.status, each.cron) for each in done} == {(Status.COMPLETED, "race")}
    assert any(each.attempt > 1 for each in done), "a killed worker's tasks were run again"


# ── the clock ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Deciders:
    """Four programs that decide at the same time, under one clock."""

    def __init__(self, database, url):
        self.database = database
        self.others = [Database(url) for _ in range(3)]
        for other in self.others:
            other.clock = database.clock
        self.start = threading.Barrier(4)

    def decide(self):
        """All four at once; how many cron rows each of them decided."""
        with ThreadPoolExecutor(4) as pool:
            return sorted(pool.map(self._decide, (self.database, *self.others)))

    def _decide(self, database):
        self.start.wait(10)
        return database.call(decide_ticks)

    def close(self):
        for other in self.others:
            other.close()


@pytest.fixture
def deciders(database, database_url):
    racing = Deciders(database, database_url)
    yield racing
    racing.close()


def test_a_clock_that_jumps_to_and_fro_decides_nothing_twice_and_leaves_nothing_out(database, deciders):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    steps = random.Random(seed)
    database.call(put_cron, EVERY_SECOND)
    first, latest = cron(database).next_at, cron(database).decided_through
    for _ in range(30):
        move_clock(database, steps.choice((0.5, 1, 2.7, 9, 60, HOUR, -1, -60, -HOUR)))
        moment = database.call(Session.now)
        decided = deciders.decide()
        now = cron(database).decided_through
        assert now >= latest, "it never goes back"
        assert (now > latest) == (sum(decided) > 0)
        assert sum(decided) > 0 or moment < latest.timestamp() * 1_000_000 + 1_000_000
        latest = now
    found = ticks(database)
    assert covered(found, first) == latest.replace(microsecond=0) + SECOND
    runs = [tick.task_id for tick in found if tick.decision == "run"]
    assert len(set(runs)) == len(runs) == Client(database).tasks().total


@pytest.mark.parametrize("policy", MissedRunPolicy)
def test_a_clock_that_jumps_ahead_leaves_the_missed_to_their_policy_and_back_changes_nothing(database, deciders, policy):
    move_clock(database, HOUR / 2 - database.call(Session.now) / 1_000_000 % HOUR)
    minutely = CronDeclaration("race", "tick", "* * * * *", missed_run_policy=policy)
    move_clock(database, 30 - database.call(Session.now) / 1_000_000 % 60)
    database.call(put_cron, minutely)
    first = cron(database).next_at
    move_clock(database, HOUR)
    assert deciders.decide() == [0, 0, 0, 1]
    decisions = [(tick.decision, tick.reason, tick.count) for tick in ticks(database)]
    late: dict[str, list[tuple[object, ...]]] = {MissedRunPolicy.SKIP: [("skip", "missed", 60)]}
    late[MissedRunPolicy.RUN_LATEST] = [("skip", "missed", 59), ("run", None, 1)]
    assert decisions == late[policy]
    for step in (-HOUR, HOUR / 2, HOUR / 2):
        move_clock(database, step)
        assert deciders.decide() == [0, 0, 0, 0]
    assert covered(ticks(database), first, timedelta(minutes=1)) == first + timedelta(hours=1)


# ── held locks ────────────────────────────────────────────────────────────────────────────────────────────────────


def late(database):
    """An hour has passed."""
    move_clock(database, HOUR)


def only_one_task(database):
    with database.engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(task)).scalar_one() == 1


def test_a_second_decider_that_waits_for_the_first_decides_nothing_twice(database):
    database.call(put_cron, HOURLY)
    late(database)
    reached = threading.Event()
    with database.engine.connect() as first, ThreadPoolExecutor(1) as pool:
        if database.postgresql:
            first.execute(sa.text("LOCK TABLE fibflow.task_type IN ACCESS EXCLUSIVE MODE"))
        assert decide_ticks(Session(first)) == 1
        sa.event.listen(database.engine, "before_cursor_execute", lambda *call: reached.set())
        second = pool.submit(database.call, decide_ticks)
        assert reached.wait(10)
        if database.postgresql:
            until(lambda: waiting(database))
        assert not second.done()
        first.commit()
        assert second.result(10) == 0
    assert only_one_task(database)


def waiting(database):
    """Whether somebody waits for a lock with the statement that looks for due cron tasks."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%cron_task%'"
    with database.engine.connect() as connection:
        return connection.execute(sa.text(query + " AND datname = current_database()")).scalar_one() == 1


def test_a_decider_that_dies_holding_the_row_leaves_its_instants_to_the_second(database):
    database.call(put_cron, HOURLY)
    late(database)
    dying = database.engine.connect()
    assert decide_ticks(Session(dying)) == 1
    if database.postgresql:
        assert database.call(decide_ticks) == 0, "the row is held, and nobody waits for it"
    dying.invalidate()
    dying.close()
    until(lambda: database.call(decide_ticks) == 1)
    assert only_one_task(database)


def test_a_due_cron_task_of_another_namespace_keeps_no_worker_busy(database, database_url):
    elsewhere = Database(database_url, namespace="elsewhere")
    elsewhere.clock = database.clock
    elsewhere.call(declare_types, [Declaration("tick")])
    elsewhere.call(put_cron, HOURLY)
    late(database)
    assert elsewhere.call(polling.poll, []).tick
    assert not database.call(polling.poll, []).tick
    elsewhere.close()
