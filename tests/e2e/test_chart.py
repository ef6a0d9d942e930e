"""The chart on a real cluster, from nothing: it installs, tells how to go on, is watched, is upgraded, goes and comes back."""

import itertools
import json
import runpy
import time

import pytest

from cluster.network import CONTROL
from cluster.network import DATABASE as DATABASE_PORT
from cluster.waiting import until
from e2e import fleets, releases
from e2e.figures import record
from e2e.planes import ONLY_IN_FULL, resource, task_type
from e2e.releases import CHART, ROOT, Prometheus, Release
from fibflow.store.migrate import migrate
from manifests.test_dashboard import EXPRESSIONS, VARIABLES
from scraping import families

DATABASE = "chart"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def operator_image(own_cluster):
    return own_cluster.give(releases.operator())


@pytest.fixture
def place(own_cluster, operator_image, tmp_path):
    """A namespace of restricted security, and a release that is to be."""
    with releases.restricted(own_cluster, f"chart-{next(NUMBERS)}") as namespace:
        yield Release(own_cluster, namespace, operator_image, tmp_path)


@pytest.fixture(scope="module")
def installed(own_cluster, operator_image, tmp_path_factory):
    """A release on an empty database of its own, whose Secret was there before."""
    with releases.restricted(own_cluster, "chart") as namespace:
        own_cluster.postgres.sql(f"CREATE DATABASE {DATABASE}")
        url = own_cluster.postgres.url(DATABASE)
        for name in ("database", "fibflow-database"):
            own_cluster.kubectl("create", "secret", "generic", name, "-n", namespace, f"--from-literal=dsn={url}")
        release = Release(own_cluster, namespace, operator_image, tmp_path_factory.mktemp("release"))
        begin = time.monotonic()
        release.notes = release.install({"database": {"existingSecret": "database"}})
        release.took = time.monotonic() - begin
        yield release
        release.uninstall()


def test_the_notes_say_which_commands_come_next_and_they_work(installed):
    notes = installed.notes.partition("NOTES:")[2]
    assert "helm test my --namespace chart" in notes
    assert "kubectl apply --namespace chart -f" in notes
    assert "kubectl get fibflow --namespace chart" in notes
    assert "kubectl create secret generic fibflow-database --namespace NAMESPACE" in notes
    assert "Phase:          Succeeded" in installed.helm("test", "my")


def test_an_install_on_an_empty_database_is_ready_within_a_minute(installed):
    assert record("H1", "helm install --wait on an empty database", [installed.took], 60)


def test_what_is_applied_comes_into_force_and_an_upgrade_loses_none_of_it(installed):
    cluster, namespace = installed.cluster, installed.namespace
    image = f"{cluster.give(releases.example())}\n  imagePullPolicy: Never"
    for file in (ROOT / "examples" / "stdlib" / "manifests").glob("*.yaml"):
        cluster.apply(file.read_text().replace("fibflow-example-stdlib:latest", image), namespace)
    # The watch tells of them: whole lists are a minute apart.
    cluster.wait("condition=Ready", "tasktypes,crontasks,workerpools", "--all", namespace=namespace, seconds=40)
    before, workers = set(installed.operators()), _workers(cluster, namespace)
    installed.install(installed.values | {"operator": {"logLevel": "DEBUG"}})
    until(lambda: not before & set(installed.operators()), 60, "the operators are new ones")
    assert {each["name"] for each in installed.fibflow("types")} >= {"tick", "index_stdlib"}
    assert _workers(cluster, namespace) == workers


def _workers(cluster, namespace):
    """The uids of the workers' pods."""
    ours = ("pods", "-l", "fibflow.dev/pool=stdlib")
    return set(cluster.field(".items[*].metadata.uid", *ours, namespace=namespace).split())


def test_a_prometheus_in_the_cluster_finds_every_metric_and_takes_every_query(installed, tmp_path):
    image = installed.cluster.give(releases.prometheus(tmp_path))
    prometheus = Prometheus(installed.cluster, installed.namespace, image, CHART / "files" / "rules.yaml")
    prometheus.wait("fibflow_operator_leader == 1 and fibflow_operator_database_up == 1")
    prometheus.wait("count(up == 1) == 5")  # two operators, three workers
    served = runpy.run_path(str(ROOT / "tools" / "reference.py"))["served"]
    for program, series in {"operator": "fibflow_operator_leader == 1", "worker": "fibflow_slots > 0"}.items():
        pod = prometheus.wait(series)[0]["metric"]["pod"]
        place = f"/api/v1/namespaces/{installed.namespace}/pods/{pod}:8080/proxy/metrics"
        text = installed.cluster.kubectl("get", "--raw", place)
        assert {name for name, _ in families(text)} == {each.name for each in served(program)}
    for title, expression in EXPRESSIONS.items():
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        prometheus.query(expression)  # it raises for what Prometheus does not take
        assert title
    assert prometheus.query('fibflow_tasks{type="tick",status="pending"}')
    assert prometheus.query("fibflow_database_claim_indexed == 1")
    groups = prometheus.ask("rules?type=alert")["groups"]
    assert [rule["lastError"] for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    firing = {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"}
    assert firing == set()


def test_an_uninstall_keeps_resources_and_rows_and_a_reinstall_goes_on_with_them(installed):
    cluster, namespace = installed.cluster, installed.namespace
    cluster.apply(json.dumps(task_type("stays", description="before")), namespace)
    cluster.wait("condition=Ready", "tasktype/stays", namespace=namespace)
    installed.uninstall()
    ours = ("-n", namespace, "-l", "app.kubernetes.io/instance=my", "-o", "name")
    assert cluster.kubectl("get", "deployments,services,roles,jobs,secrets", *ours) == ""
    assert cluster.field(".metadata.name", "tasktype/stays", namespace=namespace) == "stays"
    rows = "SELECT description FROM fibflow.task_type WHERE resource = 'stays'"
    assert cluster.postgres.sql(rows, DATABASE) == "before"
    cluster.apply(json.dumps(task_type("stays", description="after")), namespace)
    installed.install(installed.values)
    until(lambda: cluster.postgres.sql(rows, DATABASE) == "after", 30, "the resource is in force")


def test_the_built_in_database_needs_nothing_else(place):
    image = place.cluster.give(releases.postgresql())
    repository, _, tag = image.rpartition(":")
    built_in = {"enabled": True, "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}}
    said = place.install({"postgresql": built_in | {"persistence": {"enabled": False}}, "watchNamespaces": [place.namespace]})
    assert "the built-in PostgreSQL is for trying things out" in said
    assert f"the Secret fibflow-database in their own namespace. It is in\n{place.namespace};" in said
    assert "Phase:          Succeeded" in place.helm("test", "my")
    place.cluster.apply(json.dumps(task_type("work")), place.namespace)
    place.cluster.wait("condition=Ready", "tasktype/work", namespace=place.namespace)
    place.uninstall()


@ONLY_IN_FULL
def test_helm_4_installs_tests_upgrades_rolls_back_and_uninstalls(place):
    place.program = "helm4"
    place.cluster.postgres.sql("CREATE DATABASE by_helm_4")
    url = place.cluster.postgres.url("by_helm_4")
    place.cluster.apply(fleets.secret(url), place.namespace)
    values = {"database": {"existingSecret": "fibflow-database"}, "watchNamespaces": [place.namespace]}
    place.install(values, CHART, "--force-conflicts")
    assert "Phase:          Succeeded" in place.helm("test", "my")
    place.cluster.apply(json.dumps(task_type("work")), place.namespace)
    place.cluster.wait("condition=Ready", "tasktype/work", namespace=place.namespace)
    place.install(values | {"operator": {"logLevel": "DEBUG"}}, CHART, "--force-conflicts")
    place.helm("rollback", "my", "1", "--wait", "--timeout", "120s")
    assert place.helm("history", "my", "--output", "json").count('"revision"') == 3
    place.uninstall()
    assert place.cluster.field(".metadata.name", "tasktype/work", namespace=place.namespace) == "work"


HURRIED = {"migrations": {"waitSeconds": 1, "backoffLimit": 0}}


@pytest.fixture
def refused(place):
    """Tries to install with such values; what Helm said. Nothing of the release may be there then, but what said it."""

    def install(database):
        with pytest.raises(RuntimeError, match="failed pre-install") as failed:
            place.install({"database": database, "watchNamespaces": [place.namespace]} | HURRIED)
        ours = ("-n", place.namespace, "-l", "app.kubernetes.io/instance=my", "-o", "name")
        left = place.cluster.kubectl("get", "deployments,services,roles,serviceaccounts,poddisruptionbudgets,jobs", *ours)
        assert set(left.split()) <= {"job.batch/my-fibflow-migrations", "serviceaccount/my-fibflow-migrations"}
        place.helm("uninstall", "my", "--no-hooks")
        return str(failed.value).partition(releases.LAST_WORDS)[0]

    return install


@pytest.fixture
def database(place):
    """A database of the test's own, and the values that lead there."""
    name = place.namespace.replace("-", "_")
    place.cluster.postgres.sql(f"CREATE DATABASE {name}")
    place.cluster.apply(fleets.secret(place.cluster.postgres.url(name)), place.namespace)
    migrate(place.cluster.postgres.url(name, "127.0.0.1", place.cluster.postgres_port))
    return name, {"existingSecret": "fibflow-database"}


def test_an_address_that_leads_nowhere_is_said_and_nothing_is_installed(refused):
    said = refused({"host": "nowhere.invalid", "operator": {"user": "op"}})
    assert "postgresql://op@nowhere.invalid:5432/fibflow?sslmode=prefer is not available" in said


@ONLY_IN_FULL
def test_a_schema_that_is_newer_than_the_code_is_said_and_nothing_is_installed(refused, database, place):
    name, values = database
    place.cluster.postgres.sql("UPDATE fibflow.schema_version SET version = 'later', oldest_code = '77.0.0'", name)
    assert "has schema later, too new for fibflow" in (said := refused(values)) and "install fibflow 77.0.0 or newer" in said


@ONLY_IN_FULL
def test_a_second_installation_on_one_database_is_refused_before_anything_is_there(refused, installed, place):
    url = installed.cluster.postgres.url(DATABASE)
    place.cluster.apply(fleets.secret(url), place.namespace)
    assert "serves the installation 'chart/my' and not" in refused({"existingSecret": "fibflow-database"})


@ONLY_IN_FULL
@pytest.mark.parametrize("whose", ["migrations", "operator"])
def test_a_role_without_rights_is_told_what_it_lacks_and_nothing_is_installed(refused, database, place, whose):
    name, _ = database
    place.cluster.postgres.sql(f"CREATE ROLE powerless_{whose} LOGIN")
    users = {role: {"user": "postgres"} for role in ("migrations", "operator")} | {whose: {"user": f"powerless_{whose}"}}
    address = {"host": CONTROL, "port": DATABASE_PORT, "name": name}
    said = refused(address | users)
    assert {"migrations": "permission denied", "operator": "'powerless_operator' lacks USAGE of the schema"}[whose] in said


def test_who_may_edit_writes_task_types_but_none_with_workers(installed):
    cluster, namespace = installed.cluster, installed.namespace
    cluster.kubectl("create", "rolebinding", "ed", "-n", namespace, "--clusterrole=edit", "--user=ed")
    as_ed = ("apply", "-n", namespace, "--as=ed", "-f", "-")
    until(lambda: "yes" in _may(cluster, namespace), 20, "the role edit has been aggregated")
    cluster.kubectl(*as_ed, text=json.dumps(task_type("plain")))
    with pytest.raises(RuntimeError, match="forbidden"):
        cluster.kubectl(*as_ed, text=json.dumps(resource("WorkerPool", "pool", app="a:b", image="i")))


def _may(cluster, namespace):
    try:
        return cluster.kubectl("auth", "can-i", "create", "tasktypes", "-n", namespace, "--as=ed")
    except RuntimeError:
        return "no"
