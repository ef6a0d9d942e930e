"""The chart on a real cluster, from nothing: it installs, tells how to go on, is watched, is upgraded, goes and comes back."""

import itertools
import json
import os
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


@ONLY_IN_FULL  # in short, tests/e2e/test_watching.py sees as much
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


def _built_in(place, **values):
    """The values of a release with the built-in database."""
    repository, _, tag = place.cluster.give(releases.postgresql()).rpartition(":")
    image = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    return {"postgresql": {"enabled": True, "image": image, **values}, "watchNamespaces": [place.namespace]}


@pytest.fixture
def volume(place, tmp_path):
    """A volume for the built-in database: no class of this cluster makes any."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 999, 999)
    claim = {"namespace": place.namespace, "name": "data-my-fibflow-postgresql-0"}
    spec = {
        "capacity": {"storage": "8Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(folder)},
        "claimRef": claim,
    }
    body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": place.namespace}, "spec": spec}
    place.cluster.apply(json.dumps(body))
    yield
    place.cluster.kubectl("delete", "persistentvolume", place.namespace, "--wait=false")


def test_the_built_in_database_keeps_tasks_and_its_password_for_the_next_release(place, volume):
    place.install(_built_in(place))
    place.cluster.apply(json.dumps(task_type("work")), place.namespace)
    place.cluster.wait("condition=Ready", "tasktype/work", namespace=place.namespace)
    place.fibflow("enqueue", "work")
    before = place.fibflow("list")
    place.helm("uninstall", "my", "--wait", "--timeout", "60s")
    place.install(_built_in(place))
    assert place.fibflow("list") == before and "work" in str(before)
    place.uninstall()


@ONLY_IN_FULL  # in short, the README's walk is this
def test_the_built_in_database_needs_nothing_else(place):
    said = place.install(_built_in(place, persistence={"enabled": False}))
    assert "the built-in PostgreSQL is for trying things out" in said
    assert f"the Secret fibflow-database in their own namespace. It is in\n{place.namespace};" in said
    assert "Phase:          Succeeded" in place.helm("test", "my")
    place.cluster.apply(json.dumps(task_type("work")), place.namespace)
    place.cluster.wait("condition=Ready", "tasktype/work", namespace=place.namespace)
    place.uninstall()


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


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"database": {"existingSecret": "nowhere"}}, "database.existingSecret names nowhere, and there is no such Secret in"),
        ({"watchNamespaces": ["nowhere"]}, "watchNamespaces names nowhere, and there is no such namespace"),
    ],
    ids=["secret", "namespace"],
)
def test_what_values_name_and_is_not_there_is_said_before_anything_is_installed(place, values, said):
    with pytest.raises(RuntimeError, match=said):
        place.install({"database": {"host": "nowhere.invalid", "operator": {"user": "op"}}} | values)
    assert json.loads(place.helm("list", "--all", "--output", "json")) == []


def test_an_address_that_leads_nowhere_is_said_and_nothing_is_installed(refused):
    said = refused({"host": "nowhere.invalid", "operator": {"user": "op"}})
    assert "postgresql://op@nowhere.invalid:5432/fibflow?sslmode=prefer is not available" in said


def test_a_schema_that_is_newer_than_the_code_is_said_and_nothing_is_installed(refused, database, place):
    name, values = database
    place.cluster.postgres.sql("UPDATE fibflow.schema_version SET version = 'later', oldest_code = '77.0.0'", name)
    assert "has schema later, too new for fibflow" in (said := refused(values)) and "install fibflow 77.0.0 or newer" in said


def test_a_second_installation_on_one_database_is_refused_before_anything_is_there(refused, installed, place):
    url = installed.cluster.postgres.url(DATABASE)
    place.cluster.apply(fleets.secret(url), place.namespace)
    assert "serves the installation 'chart/my' and not" in refused({"existingSecret": "fibflow-database"})


@pytest.mark.parametrize("whose", ["migrations", "operator"])
def test_a_role_without_rights_is_told_what_it_lacks_and_nothing_is_installed(refused, database, place, whose):
    name, _ = database
    place.cluster.postgres.sql(f"CREATE ROLE powerless_{whose} LOGIN")
    users = {role: {"user": "postgres"} for role in ("migrations", "operator")} | {whose: {"user": f"powerless_{whose}"}}
    address = {"host": CONTROL, "port": DATABASE_PORT, "name": name}
    said = refused(address | users)
    assert {"migrations": "permission denied", "operator": "'powerless_operator' lacks USAGE of the schema"}[whose] in said


def test_who_may_view_reads_who_may_edit_sets_no_workers_and_who_is_admin_does(installed):
    cluster, namespace = installed.cluster, installed.namespace
    for role in ("view", "edit", "admin"):
        cluster.kubectl("create", "rolebinding", role, "-n", namespace, f"--clusterrole={role}", f"--user={role}")
    own = {"app": "a:b", "image": "i", "replicas": 0}

    def applies(who, body):
        cluster.kubectl("apply", "-n", namespace, f"--as={who}", "-f", "-", text=json.dumps(body))

    def is_refused(who, body, why):
        with pytest.raises(RuntimeError, match=why):
            applies(who, body)

    until(lambda: _may(cluster, namespace, "admin"), 20, "the roles have been aggregated")
    applies("edit", task_type("plain"))
    assert "plain" in cluster.kubectl("get", "tasktypes", "-n", namespace, "--as=view", "-o", "name")
    is_refused("view", task_type("other"), "forbidden")
    is_refused("edit", resource("WorkerPool", "pool", app="a:b", image="i"), "forbidden")
    runs_an_image = "only who may create WorkerPools may set spec.worker"
    is_refused("edit", task_type("own", worker=own), runs_an_image)
    applies("admin", task_type("own", worker=own))
    applies("edit", task_type("own", worker=own, description="said by an editor"))
    is_refused("edit", task_type("own", worker=own | {"image": "j"}), runs_an_image)
    applies("admin", resource("WorkerPool", "pool", app="a:b", image="i", replicas=0))


def _may(cluster, namespace, who):
    try:
        return "yes" in cluster.kubectl("auth", "can-i", "create", "workerpools", "-n", namespace, f"--as={who}")
    except RuntimeError:
        return False
