"""What breaks around an operator: the API server, the database, both with what is in them."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import Any

import pytest

from cluster.faults import Answer, Cut, Gone, Latency, Lost
from cluster.waiting import until
from e2e.figures import record
from e2e.planes import FULL, ONLY_IN_FULL, Plane, cron_task, quiet, task_type
from faults.crew import Crew, crew
from fibflow import Client, Status
from fibflow.store.database import Database
from fibflow.store.deciding import decide_ticks
from fibflow.store.migrate import migrate
from postgres_server import Server

AWAY = 60.0 if FULL else 9.0
"""Seconds of an outage; longer than a leader keeps its lead without the API server."""
LONG_AWAY = 160.0
"""Seconds without a database; longer than a key may lie untouched."""
CRONS = "SELECT count(*) FROM fibflow.cron_task"
LEAD = "SELECT epoch, holder FROM fibflow.installation"
EVERY_SECOND: dict[str, Any] = {
    "schedule": "* * * * * *",
    "concurrencyPolicy": "Allow",
    "payload": {"n": 2},
    "pauseOnFailure": False,
}
ON_TIME = 10_000_000
"""Microseconds that an instant may be late and still be on time."""


@contextmanager
def at_work(plane: Plane, folder) -> Iterator[tuple[Crew, Client]]:
    """A worker process of the plane's namespace, whose application is scripted_app; and who gives it tasks."""
    command = (sys.executable, "-m", "fibflow_worker", "scripted_app:app")
    with crew(plane.url, folder, command=command, environment={"FIBFLOW_NAMESPACE": plane.namespace}) as workers:
        workers.start("worker")
        with Client(plane.url, namespace=plane.namespace) as client:
            yield workers, client


def completed(client: Client, task_id: int) -> bool:
    return client.get(task_id).status is Status.COMPLETED


@pytest.fixture
def synced(plane):
    """An operator that has synced a TaskType `work` and a CronTask `nightly`."""
    plane.apply(task_type("work"), cron_task("nightly"))
    plane.start("--list-every", "5")
    plane.wait_condition("CronTask", "nightly", status="True", seconds=30)
    return plane


def work_goes_on(plane: Plane, client: Client, since: int, seconds: float) -> None:
    """Tasks are completed, and for so many seconds since that instant one was due and run in each."""
    late = client.enqueue("threaded", {"n": 4})
    until(lambda: completed(client, late), 20, "a task is completed meanwhile")
    ran = "SELECT count(*) FROM fibflow.cron_tick WHERE decision = 'run' AND decided_at >= %s"
    until(lambda: plane.sql(ran, since)[0][0] >= seconds, 9, "instants are decided all the while")
    done = "SELECT count(*) FROM fibflow.task_final WHERE cron_id > 0 AND status = 'completed' AND finished_at >= %s"
    until(lambda: plane.sql(done, since)[0][0] >= seconds, 9, "their tasks run all the while")


def test_the_api_server_away_and_back(synced, tmp_path):
    synced.apply(task_type("threaded"), cron_task("goes"), cron_task("each", "threaded", **EVERY_SECOND))
    synced.wait_sql(3, CRONS)
    with at_work(synced, tmp_path) as (workers, client):
        first = client.enqueue("threaded", {"n": 3})
        until(lambda: completed(client, first), 20, "the worker works")
        with synced.proxy.outage():
            begin, since = time.monotonic(), synced.sql("SELECT fibflow.fibflow_now()")[0][0]
            synced.delete("CronTask", "goes")
            synced.apply(cron_task("comes"))
            until(lambda: time.monotonic() - begin > AWAY - 2, AWAY + 9, "time passes")
            work_goes_on(synced, client, since, AWAY - 3)
            assert synced.sql("SELECT count(*) FROM fibflow.cron_task WHERE name = 'goes'") == [(1,)]
        assert workers.ended() == []
    back = time.monotonic()
    synced.wait_sql(1, "SELECT count(*) FROM fibflow.cron_task WHERE name = 'comes'", seconds=60)
    synced.wait_sql(0, "SELECT count(*) FROM fibflow.cron_task WHERE name = 'goes'", seconds=60)
    assert record("K5", f"API server back after {AWAY:.0f} s to all rows right", [time.monotonic() - back], 30)


@ONLY_IN_FULL
def test_the_api_server_itself_is_killed_and_comes_back(staffed, own_cluster, tmp_path):
    staffed.apply(task_type("threaded"), cron_task("each", "threaded", **EVERY_SECOND))
    operator = staffed.start("--list-every", "5")
    staffed.wait_condition("CronTask", "each", status="True", seconds=30)
    with at_work(staffed, tmp_path) as (workers, client):
        begin, since = time.monotonic(), staffed.sql("SELECT fibflow.fibflow_now()")[0][0]
        own_cluster.control.machine.stop("kube-apiserver")
        until(lambda: time.monotonic() - begin > AWAY - 2, AWAY + 9, "time passes")
        work_goes_on(staffed, client, since, AWAY - 3)
        own_cluster.control.bring_back()
        back = time.monotonic()
        staffed.apply(cron_task("comes", "threaded"))
        staffed.wait_condition("CronTask", "comes", status="True", seconds=60)
        assert record(
            "K5 killed", "API server killed, back after 60 s: a new resource is in force", [time.monotonic() - back], 30
        )
        assert operator.running and workers.ended() == []


@pytest.mark.parametrize("fault", [Answer(429, retry_after=1), Answer(500), Cut(), Lost()], ids=["429", "500", "cut", "lost"])
def test_a_storm_of_failures_at_every_write_and_list_passes(synced, fault):
    with synced.proxy.fault(fault, times=12, user=synced.user, group="fibflow.dev"):
        synced.apply(*(cron_task(f"storm-{number}", schedule="0 4 * * *") for number in range(10)))
        synced.wait_sql(11, CRONS)
        for number in range(10):
            synced.wait_condition("CronTask", f"storm-{number}", status="True", seconds=40)


def test_a_slow_api_server_costs_nobody_the_lead(synced):
    lead, many = synced.sql(LEAD), [cron_task(f"slow-{number}") for number in range(120)]  # more than are told at once
    with synced.proxy.fault(Latency(1.5), user=synced.user, resource="crontasks/status"):
        synced.apply(*many)
        synced.wait_condition("CronTask", "slow-0", status="True", seconds=40)
        synced.wait_condition("CronTask", "slow-119", status="True", seconds=40)
    assert synced.sql(LEAD) == lead


def test_watches_that_are_forgotten_begin_anew(synced):
    with synced.proxy.fault(Gone(), times=3, verb="watch", user=synced.user):
        for number in range(3):
            synced.proxy.expire(user=synced.user)
            synced.apply(cron_task(f"gone-{number}"))
            synced.wait_condition("CronTask", f"gone-{number}", status="True", seconds=30)


def test_a_database_that_is_away_is_waited_for(plane, tmp_path):
    with Server() as server:
        plane.url = url = server.create("fibflow")
        migrate(url)
        plane.apply(task_type("threaded"), cron_task("nightly", "threaded"))
        operator = plane.start("--look-every", "1")
        plane.wait_condition("CronTask", "nightly", status="True", seconds=30)
        until(lambda: quiet(lambda: len(plane.api_writes()), 1), 20, "it has seen what it wrote itself")
        plane.apply(cron_task("each", "threaded", **EVERY_SECOND, missedRunPolicy="Skip"))
        plane.apply(cron_task("seldom", "threaded", **{**EVERY_SECOND, "schedule": "*/15 * * * * *"}))
        plane.wait_sql(3, CRONS)
        with at_work(plane, tmp_path) as (workers, client):
            first = client.enqueue("threaded", {"n": 3})
            until(lambda: completed(client, first), 20, "the worker works")
            before = [client.enqueue("threaded", {"n": number}) for number in range(50)]
            server.crash()
            plane.apply(cron_task("meanwhile", "threaded"))
            plane.wait_condition("CronTask", "meanwhile", "Synced", status="False", reason="DatabaseUnavailable", seconds=60)
            assert "is not available" in plane.condition("CronTask", "meanwhile", "Synced")["message"]
            late = plane.start()
            live(operator, AWAY)
            live(late, 0)  # it has not seen the database yet
            assert plane.condition("CronTask", "nightly")["status"] == "True"
            server.start()
            begin = time.monotonic()
            plane.wait_condition("CronTask", "meanwhile", status="True", seconds=60)
            assert record("K6", f"PostgreSQL back after {AWAY:.0f} s to a status", [time.monotonic() - begin], 40)
            assert operator.running and late.running
            done = "SELECT count(*) FROM fibflow.task_final WHERE id = ANY(%s) AND status = 'completed'"
            plane.wait_sql(len(before), done, before, seconds=60)
            assert workers.ended() == []
            plane.wait_sql(True, DECIDED, "seldom", seconds=30)  # all of this may take less than its 15 seconds
            assert instants(plane, "each", 1) and instants(plane, "seldom", 15, latest_runs=True)


DECIDED = "SELECT count(*) > 0 FROM fibflow.cron_tick JOIN fibflow.cron_task ON id = cron_id WHERE name = %s"


def instants(plane: Plane, cron: str, seconds: int, latest_runs: bool = False) -> bool:
    """Whether every instant was decided once, by the policy: who was on time ran, and of the missed the latest, or none."""
    query = (
        "SELECT tick, through, coalesce(count, 1), decision, decided_at, max(tick) OVER (PARTITION BY decided_at) = tick "
        "FROM fibflow.cron_tick JOIN fibflow.cron_task ON id = cron_id WHERE name = %s ORDER BY tick"
    )
    rows = plane.sql(query, cron)
    step = seconds * 1_000_000
    assert [after[0] - row[1] for row, after in pairwise(rows)] == [step] * (len(rows) - 1), rows
    assert all(through - tick == (count - 1) * step for tick, through, count, *_ in rows), rows
    due = [decided - tick <= ON_TIME or (latest_runs and latest) for tick, _, _, _, decided, latest in rows]
    assert [decision == "run" for _, _, _, decision, *_ in rows] == due, rows
    return bool(rows)


@ONLY_IN_FULL
def test_who_takes_over_while_the_database_is_away_lives_and_leads_when_it_is_back(plane):
    with Server() as server:
        url = server.create("fibflow")
        migrate(url)
        plane.url = url
        plane.apply(task_type("work"))
        first = plane.start()
        plane.wait_condition("TaskType", "work", status="True", seconds=30)
        second = plane.start()
        plane.wait_log("taking_part", number=2)
        server.crash()
        first.end(signal.SIGKILL)
        plane.apply(*(cron_task(f"meanwhile-{number}") for number in range(5)))
        plane.wait_log("lead_not_taken", number=2, seconds=40)
        live(second, LONG_AWAY)
        server.start()
        plane.wait_condition("CronTask", "meanwhile-4", status="True", seconds=60)
        assert second.running


def live(operator, seconds: float) -> None:
    """The kubelet would let it live all the while."""
    until(lambda: operator.health == (200, "ok"), 20, "it answers")
    begin = time.monotonic()
    until(lambda: operator.health != (200, "ok") or time.monotonic() - begin >= seconds, seconds + 9, "time passes")
    assert operator.health == (200, "ok")


def test_a_wiped_database_is_built_again_and_a_pause_outlives_it(synced):
    synced.apply(cron_task("each", schedule="* * * * * *", concurrencyPolicy="Allow"), cron_task("failed"))
    synced.wait_condition("CronTask", "failed", status="True")
    synced.sql("UPDATE fibflow.cron_task SET paused = true, paused_reason = 'task 7 failed for good' WHERE name = 'failed'")
    synced.wait_condition("CronTask", "failed", "Paused", status="True", reason="TickFailed")
    with closing(Database(synced.url, namespace=synced.namespace)) as database:
        until(lambda: database.call(decide_ticks), 10, "an instant is decided")
        synced.sql("DROP SCHEMA fibflow CASCADE")
        synced.sql("DROP TABLE IF EXISTS alembic_version")
        migrate(synced.url)
        database.close()  # the plans of its connections are of tables that are gone
        wiped = synced.sql("SELECT fibflow.fibflow_now()")[0][0]
        begin = time.monotonic()
        synced.wait_sql(3, CRONS, seconds=60)
        met = record("K3", "the database wiped to all rows back", [time.monotonic() - begin], 60)
        until(lambda: database.call(decide_ticks), 10, "an instant is decided")
    assert met
    assert synced.sql("SELECT min(tick) > %s FROM fibflow.cron_tick", wiped) == [(True,)]
    paused = "SELECT paused, paused_reason FROM fibflow.cron_task WHERE name = 'failed'"
    assert synced.sql(paused) == [(True, "task 7 failed for good")]
    assert synced.condition("CronTask", "failed", "Paused")["reason"] == "TickFailed"
