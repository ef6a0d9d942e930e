"""A Prometheus in the cluster sees what is so: alerts fire for real and resolve, and panels show what the database holds."""

import json
import re
import runpy
import time
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from cluster.waiting import until
from e2e import fleets, releases, truths
from e2e.planes import FULL, cron_task
from e2e.releases import CHART, ROOT, Prometheus, Release
from fibflow import Client, NewTask
from manifests.test_alerts import GROUPS
from manifests.test_dashboard import EXPRESSIONS, QUERIES

DATABASE = "watched"
OLD, LOST, LATELY, TICKS = (60, 4, "1m", 20) if FULL else (15, 1, "20s", 5)
SHARPER = {
    "(fibflow_oldest_pending_seconds) > 300": f"(fibflow_oldest_pending_seconds) > {OLD}",
    "(fibflow_cron_overdue_seconds) > 60": "(fibflow_cron_overdue_seconds) > 3",
    "fibflow_lost_workers_total[15m])) > 4": f"fibflow_lost_workers_total[{LATELY}])) > {LOST}",
}
"""What would take long in the rules, and what stands for it here; besides, no alert waits for more than two seconds."""


@dataclass
class Watched:
    """An installation with a Prometheus beside it, and a client of its database."""

    release: Release
    prometheus: Prometheus
    client: Client
    image: str

    @property
    def namespace(self):
        return self.release.namespace

    def apply(self, *resources):
        for each in resources:
            self.release.cluster.apply(json.dumps(each), self.namespace)

    def sql(self, statement):
        return self.release.cluster.postgres.sql(statement, DATABASE)

    def fires(self, alert, seconds=90, **labels):
        self.prometheus.wait(_firing(alert, labels), seconds)

    def resolves(self, alert, seconds=90, **labels):
        until(lambda: not self.prometheus.query(_firing(alert, labels)), seconds, f"{alert} resolves")


def _firing(alert, labels):
    matchers = {"alertname": alert, "alertstate": "firing", **labels}
    wanted = ",".join(f'{name}="{value}"' for name, value in matchers.items())
    return f"ALERTS{{{wanted}}}"


@pytest.fixture(scope="module")
def watched(own_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    image = own_cluster.give(fleets.application())
    with releases.restricted(own_cluster, "watched") as namespace:
        own_cluster.postgres.sql(f"CREATE DATABASE {DATABASE}")
        own_cluster.apply(fleets.secret(own_cluster.postgres.url(DATABASE)), namespace)
        release = Release(own_cluster, namespace, own_cluster.give(releases.operator()), folder)
        release.install({"database": {"existingSecret": "fibflow-database"}, "watchNamespaces": [namespace]})
        prometheus = Prometheus(own_cluster, namespace, own_cluster.give(releases.prometheus(folder)), _sharper(folder))
        url = own_cluster.postgres.url(DATABASE, "127.0.0.1", own_cluster.postgres_port)
        with Client(url, namespace=namespace) as client:
            yield Watched(release, prometheus, client, image)
        release.uninstall()


def _sharper(folder):
    text = (CHART / "files" / "rules.yaml").read_text()
    for slow, quick in SHARPER.items():
        assert slow in text
        text = text.replace(slow, quick)
    (folder / "rules.yaml").write_text(re.sub(r"for: \w+", "for: 2s", text))
    return folder / "rules.yaml"


@pytest.fixture(scope="module")
def busy(watched):
    """Tasks of every fate, then nothing but tasks that run on, tasks that wait, and a cron task that a failure paused."""
    scaled = {"policy": "Backlog", "minReplicas": 0, "maxReplicas": 2}
    crew, none = fleets.pool(watched.image, "crew", replicas=2, slots=8), fleets.pool(watched.image, "none", replicas=0)
    watched.apply(crew, none, fleets.pool(watched.image, "scaled", scaling=scaled))
    watched.apply(fleets.bound("crew"), fleets.bound("none", "apart"))
    watched.release.cluster.wait("condition=Ready", "tasktypes,workerpools", "--all", namespace=watched.namespace, seconds=90)
    watched.prometheus.wait('sum(fibflow_claiming) == 2 and sum(fibflow_claims_total{type="work"}) >= 0')
    watched.apply(cron_task("ticking", schedule="* * * * * *", payload={"seconds": 0.1}))
    some = [NewTask("work", {"seconds": number / 10}) for number in range(20)]
    client = watched.client
    client.enqueue_many(some)
    for _ in range(3):
        client.enqueue("work", {"fail": True}, max_attempts=2)
    client.enqueue("work", {"seconds": 30}, timeout=1, max_attempts=1)
    watched.apply(cron_task("failing", schedule="* * * * * *", payload={"fail": True}))
    until(lambda: watched.sql("SELECT count(*) FROM fibflow.cron_task WHERE paused") == "1", 30, "a failure pauses it")
    until(lambda: watched.sql(f"SELECT count(*) > {TICKS} FROM fibflow.cron_tick") == "t", 60, "it has ticked")
    client.pause_cron("ticking")
    until(lambda: watched.sql("SELECT count(*) FROM fibflow.task WHERE state = 'running'") == "0", 30, "all has ended")
    client.enqueue_many([NewTask("work", {"seconds": 500})] * 3 + [NewTask("apart")] * 5)
    until(lambda: watched.sql("SELECT count(*) FROM fibflow.task WHERE state = 'running'") == "3", 30, "three run on")
    return watched


def test_every_panel_shows_what_the_database_holds(busy):
    assert truths.ALL.keys() == QUERIES.keys()
    found: list[str] = []

    def differences():
        found[:] = [line for title in QUERIES for line in truths.differences(title, busy)]
        return found

    try:
        until(lambda: not differences(), 60, "panels and database agree")
    except TimeoutError as late:
        late.add_note("\n".join(found))
        raise


def test_every_alert_is_true_of_what_it_is_for_and_of_nothing_else(busy):
    original = {rule["alert"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "alert" in rule}
    true = {alert for alert, expression in original.items() if busy.prometheus.query(expression)}
    assert true == {"FibflowTasksFailed", "FibflowCronPaused"}
    (failed,) = busy.prometheus.query(original["FibflowTasksFailed"])
    there = int(busy.sql("SELECT count(*) FROM fibflow.task_final WHERE status = 'permanently_failed'"))
    assert failed["metric"]["type"] == "work"
    assert float(failed["value"][1]) == pytest.approx(there, rel=0.1)


def test_a_queue_that_grows_old_is_told_until_somebody_works_on_it(busy):
    busy.fires("FibflowQueueOld", 150, type="apart", task_namespace=busy.namespace)
    busy.apply(fleets.pool(busy.image, "none", replicas=1))
    busy.resolves("FibflowQueueOld")


def test_a_cron_task_that_misses_its_ticks_is_told_until_they_are_decided(busy):
    busy.client.resume_cron("ticking")
    with _nobody_decides(busy, "ticking"):
        busy.fires("FibflowCronLate", cron="ticking")
    busy.resolves("FibflowCronLate")
    undecided = "SELECT (max(through) - min(tick)) / 1000000 + 1 - sum(count) FROM fibflow.cron_tick WHERE cron_id = {}"
    (cron,) = (each for each in busy.client.crons() if each.name == "ticking")
    busy.client.pause_cron("ticking")
    assert int(busy.sql(undecided.format(cron.id))) == 0


@contextmanager
def _nobody_decides(watched, name):
    """Hold the row that whoever decides must lock."""
    cluster = watched.release.cluster
    url = cluster.postgres.url(DATABASE, "127.0.0.1", cluster.postgres_port)
    with psycopg.connect(url) as holding:
        holding.execute("SELECT 1 FROM fibflow.cron_task WHERE name = %s FOR UPDATE", [name])
        yield


def test_pods_that_do_not_come_up_are_told_until_they_do(busy):
    busy.apply(fleets.pool(busy.image, "broken", app="nowhere:app"))
    busy.fires("FibflowWorkersMissing", pool="broken")
    busy.apply(fleets.pool(busy.image, "broken"))
    busy.resolves("FibflowWorkersMissing", 120)


def test_workers_that_die_again_and_again_are_told_until_they_live(busy):
    deadly = busy.client.enqueue_many([NewTask("work", {"die": True})] * 4)
    busy.fires("FibflowWorkersLost", 240)
    for task_id in deadly:
        if busy.client.get(task_id).status not in ("permanently_failed", "cancelled"):
            busy.client.cancel(task_id)
    busy.resolves("FibflowWorkersLost", 150)


def test_every_metric_of_the_reference_has_been_seen(busy):
    reference = runpy.run_path(str(ROOT / "tools" / "reference.py"))["served"]
    served = {*reference("worker"), *reference("operator")}
    ends = {"histogram": ("_bucket", "_sum", "_count")}
    names = {f"{each.name}{end}" for each in served for end in ends.get(each.kind, ("",))}
    assert names - busy.prometheus.names() == set()


def test_every_expression_is_one_that_prometheus_takes(busy):
    for expression in EXPRESSIONS.values():
        busy.prometheus.query(truths.as_sent(expression))


def test_the_dashboard_is_drawn_from_what_happened_here(busy):
    drawing = runpy.run_path(str(ROOT / "tools" / "dashboard.py"))["picture"]
    drawn = drawing(busy.prometheus.ask, time.time(), 8)
    assert drawn.count("<polyline") > len(QUERIES)
    assert drawn.count("No data") <= 2  # nothing is overdue any more, nor lost in the last minutes
    (ROOT / "build" / "dashboard.svg").write_text(drawn)
