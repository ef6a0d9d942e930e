"""The chart: what it renders is valid, restricted, and no more than was asked for."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import kubernetes_validate
import pytest
import sqlalchemy as sa
import yaml

from e2e import planes
from manifests.charts import CHART, HELMS, Resource, kinds, one, pods, render, run

EXISTING = {"database": {"existingSecret": "mine"}}
BUILT_IN = {"postgresql": {"enabled": True, "password": "drawn once"}}
PARTS = {
    "database": {
        "host": "db.example",
        "name": "tasks",
        "sslmode": "require",
        "operator": {"user": "op", "password": "p@ss/w:rd+ %"},
        "migrations": {"user": "owner", "password": "m"},
        "workers": {"user": "work", "password": "w"},
    }
}
EVERYTHING: Resource = {
    "fullnameOverride": "tasks",
    "commonLabels": {"team": "blue"},
    "watchNamespaces": ["one", "two"],
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "operator": {
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "only", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "env": [{"name": "TZ", "value": "UTC"}],
        "resources": {"limits": {"memory": "1Gi"}},
    },
    "serviceAccount": {"annotations": {"role": "x"}},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "apiServerTo": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
        "databaseTo": [{"ipBlock": {"cidr": "10.0.0.2/32"}}],
    },
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
NOTHING = {
    "serviceAccount": {"create": False},
    "rbac": {"create": False, "aggregate": False},
    "crds": {"install": False},
    "migrations": {"enabled": False},
    "operator": {"replicas": 1, "topologySpreadConstraints": [], "podDisruptionBudget": {"enabled": False}},
}
MATRIX = {
    "a Secret of yours": EXISTING,
    "the built-in database": BUILT_IN,
    "the built-in database without a volume": {"postgresql": {"enabled": True, "persistence": {"enabled": False}}},
    "an address by parts": PARTS,
    "everything": PARTS | EVERYTHING,
    "everything, built in": BUILT_IN | EVERYTHING,
    "nothing that is optional": EXISTING | NOTHING,
}
OF_OTHERS = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}


@pytest.fixture(params=list(MATRIX.values()), ids=list(MATRIX))
def values(request):
    return request.param


OLDEST, USUAL, NEWEST = "1.28.0", "1.34.0", "1.37.0"
MINORS = [f"1.{minor}.0" for minor in range(28, 38)]


def _taken(resources, kubernetes):
    """Raises unless this Kubernetes takes them."""
    for resource in resources:
        if resource["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(resource, kubernetes.rpartition(".")[0], strict=True)


@pytest.mark.parametrize("kubernetes", [OLDEST, USUAL, NEWEST])
def test_kubernetes_takes_whatever_is_rendered(values, kubernetes):
    _taken(render(values, kubernetes=kubernetes), kubernetes)


@pytest.mark.parametrize("kubernetes", [each for each in MINORS if each not in (OLDEST, USUAL, NEWEST)])
def test_every_other_kubernetes_takes_each_kind(kubernetes):
    rendered = render(PARTS | EVERYTHING, kubernetes=kubernetes)
    built_in = [each for each in render(BUILT_IN | EVERYTHING, kubernetes=kubernetes) if each["kind"] not in kinds(rendered)]
    assert kinds(built_in) == {"StatefulSet"}
    _taken([*rendered, *built_in], kubernetes)


def test_no_kubernetes_is_left_out_from_the_oldest_that_the_chart_takes():
    oldest = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    schemas = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema").glob("v1.*-local-strict")
    known = {int(each.name.split(".")[1]) for each in schemas}
    assert oldest == f">={OLDEST}-0"
    assert [f"1.{minor}.0" for minor in sorted(known) if minor >= 28] == MINORS


@pytest.mark.parametrize("major", HELMS)
def test_helm_finds_nothing_to_remark(values, major, tmp_path):
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    said = run("lint", "--strict", str(CHART), "--kube-version", "1.34.0", "--values", str(file), major=major)
    assert "[WARNING]" not in said and "[ERROR]" not in said


def test_helm_4_renders_what_helm_3_does(values):
    drawn_once = values | {"postgresql": {"password": "drawn once"} | values.get("postgresql", {})}
    rendered = [render(drawn_once, major=major) for major in HELMS]
    assert rendered[0] == rendered[1]


def test_every_pod_may_run_in_a_namespace_of_restricted_security(values):
    for where, pod in pods(render(values)):
        assert pod["securityContext"]["runAsNonRoot"] is True, where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            restricted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == restricted, where
            assert container["resources"]["limits"]["memory"], where


def test_only_the_operator_has_a_token_for_the_api_server(values):
    trusted = {where for where, pod in pods(render(values)) if pod["automountServiceAccountToken"]}
    assert len(trusted) == 1 and trusted.pop().startswith("Deployment")


def test_whatever_is_namespaced_says_so_and_belongs_to_the_release(values):
    for resource in render(values):
        labels = resource["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "my", resource["metadata"]["name"]
        assert all(labels.get(name) == value for name, value in values.get("commonLabels", {}).items())


def test_no_two_resources_have_one_name_even_if_the_release_is_named_after_us(values):
    rendered = render({**values, "fullnameOverride": "fibflow"})
    places = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in rendered]
    assert sorted(set(places), key=str) == sorted(places, key=str)


# ── rights ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_operators_rights_are_those_that_it_is_tested_with():
    rendered = render(EXISTING)
    given = one(rendered, "ClusterRole", "there-my-fibflow-operator")["rules"] + one(rendered, "Role")["rules"]
    assert given == planes.rules()
    assert one(rendered, "ClusterRoleBinding")["subjects"] == [
        {"kind": "ServiceAccount", "name": "my-fibflow-operator", "namespace": "there"}
    ]


def test_an_operator_of_some_namespaces_has_rights_in_these_only():
    rendered = render(EXISTING | {"watchNamespaces": ["one", "two"]})
    assert [each for each in rendered if each["kind"] == "ClusterRoleBinding"] == []
    roles = {each["metadata"]["namespace"]: each["rules"] for each in rendered if each["kind"] == "Role"}
    watching, own = planes.rules_of("ClusterRole"), planes.rules_of("Role")
    assert roles == {"one": watching, "two": watching, "there": own}
    bound = {each["metadata"]["namespace"] for each in rendered if each["kind"] == "RoleBinding"}
    assert bound == {"one", "two", "there"}


def _may(verb, rendered, role):
    rules = one(rendered, "ClusterRole", f"there-my-fibflow-{role}")["rules"]
    return {name for rule in rules for name in rule["resources"] if verb in rule["verbs"]}


def _written(rendered, role):
    return _may("create", rendered, role)


def test_who_may_view_reads_all_that_the_aggregated_roles_let_others_write():
    rendered = render(EXISTING)
    assert _may("get", rendered, "view") == set().union(*(_written(rendered, role) for role in ("edit", "admin")))


def test_who_may_edit_writes_no_pool_and_task_types_only_where_a_policy_guards_their_worker():
    guarded, bare = render(EXISTING), render(EXISTING, kubernetes="1.28.0")
    assert _written(guarded, "edit") == {"tasktypes", "crontasks"}
    assert "ValidatingAdmissionPolicy" in kinds(guarded)
    assert _written(bare, "edit") == {"crontasks"}
    assert "ValidatingAdmissionPolicy" not in kinds(bare)
    assert _written(guarded, "admin") == _written(bare, "admin") == {"tasktypes", "workerpools", "workerpools/scale"}
    assert _written(guarded, "view") == set()


# ── the database ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _address(rendered, name):
    found = [each for each in rendered if each["kind"] == "Secret" and each["metadata"]["name"] == name]
    return sa.make_url(found[0]["stringData"]["dsn"])


@pytest.mark.parametrize(
    ("secret", "user", "password"),
    [
        ("my-fibflow-operator-database", "op", "p@ss/w:rd+ %"),
        ("my-fibflow-migrations", "owner", "m"),
        ("fibflow-database", "work", "w"),
    ],
)
def test_each_role_has_an_address_of_its_own_whatever_its_password(secret, user, password):
    address = _address(render(PARTS), secret)
    assert (address.username, address.password, address.host, address.port) == (user, password, "db.example", 5432)
    assert (unquote(address.database), address.query["sslmode"]) == ("tasks", "require")


def test_a_role_without_a_user_of_its_own_is_the_operators():
    rendered = render({"database": {"host": "db", "operator": {"user": "op", "password": "p"}}})
    addresses = {_address(rendered, f"my-fibflow-{name}") for name in ("operator-database", "migrations")}
    assert (
        addresses
        == {_address(rendered, "fibflow-database")}
        == {sa.make_url("postgresql://op:p@db:5432/fibflow?sslmode=prefer")}
    )


def test_workers_find_their_secret_in_each_namespace_that_is_watched():
    rendered = render(PARTS | {"watchNamespaces": ["one", "two"]})
    named = [each for each in rendered if each["kind"] == "Secret" and each["metadata"]["name"] == "fibflow-database"]
    assert {each["metadata"]["namespace"] for each in named} == {"one", "two"}


def test_a_secret_of_yours_is_used_and_none_is_made():
    rendered = render({"database": {"existingSecret": "mine", "keys": {"operator": "op", "migrations": "owner"}}})
    assert "Secret" not in kinds(rendered)
    keys = {where: pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["key"] for where, pod in pods(rendered)}
    assert keys == {"Deployment my-fibflow-operator": "op", "Job my-fibflow-migrations": "owner", "Pod my-fibflow-test": "op"}


@pytest.mark.parametrize("given", [PARTS, EXISTING])
def test_whoever_asks_the_database_knows_who_must_have_signed_its_certificate(given):
    ca = {"ca": {"secret": "authority", "key": "root.pem"}}
    asking = [
        (pod, container)
        for _, pod in pods(render({"database": given["database"] | ca}))
        for container in pod["containers"]
        if "FIBFLOW_DATABASE" in str(container)
    ]
    assert len(asking) == 3
    for pod, container in asking:
        (file,) = (each["value"] for each in container["env"] if each["name"] == "PGSSLROOTCERT")
        (mount,) = (each for each in container["volumeMounts"] if each["name"] == "ca")
        (volume,) = (each for each in pod["volumes"] if each["name"] == "ca")
        assert file == f"{mount['mountPath']}/ca.crt"
        assert volume["secret"] == {"secretName": "authority", "items": [{"key": "root.pem", "path": "ca.crt"}]}
    assert "PGSSLROOTCERT" not in str(render(given))


def test_migrations_are_a_hook_with_all_that_they_need_before_them():
    rendered = render(PARTS)
    hooks = [
        each for each in rendered if each["metadata"].get("annotations", {}).get("helm.sh/hook") == "pre-install,pre-upgrade"
    ]
    weights = {each["kind"]: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]) for each in hooks}
    assert weights == {"Secret": -10, "ServiceAccount": -10, "Job": 0}


def test_with_the_built_in_database_the_operator_migrates_before_it_starts():
    rendered = render(BUILT_IN)
    assert "Job" not in kinds(rendered)
    first = one(rendered, "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert [container["name"] for container in first] == ["migrate"]
    assert _address(rendered, "my-fibflow-operator-database").host == "my-fibflow-postgresql.there.svc"


def test_the_drawn_password_is_one_in_all_its_places():
    rendered = render({"postgresql": {"enabled": True}})
    password = one(rendered, "Secret", "my-fibflow-postgresql")["stringData"]["password"]
    assert len(password) == 32
    assert {_address(rendered, name).password for name in ("my-fibflow-operator-database", "fibflow-database")} == {password}


# ── what is kept, and switches ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("keep", [True, False])
def test_definitions_are_installed_as_they_are_and_kept_unless_told_otherwise(keep):
    found = [each for each in render(EXISTING | {"crds": {"keep": keep}}) if each["kind"] == "CustomResourceDefinition"]
    sources = [yaml.safe_load(path.read_text()) for path in planes.DEFINITIONS]
    assert sorted((each["spec"] for each in found), key=str) == sorted((each["spec"] for each in sources), key=str)
    kept = [each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") for each in found]
    assert kept == (["keep"] if keep else [None]) * 3


@pytest.mark.parametrize(
    ("switch", "made"),
    [
        ({"networkPolicy": {"enabled": True}}, {"NetworkPolicy"}),
        ({"monitoring": {"podMonitor": {"enabled": True}}}, {"PodMonitor"}),
        ({"monitoring": {"serviceMonitor": {"enabled": True}}}, {"ServiceMonitor"}),
        ({"monitoring": {"prometheusRule": {"enabled": True}}}, {"PrometheusRule"}),
        ({"monitoring": {"dashboard": {"enabled": True}}}, {"ConfigMap"}),
    ],
)
def test_a_switch_adds_what_it_is_for_and_nothing_else(switch, made):
    assert kinds(render(EXISTING | switch)) - kinds(render(EXISTING)) == made


OFF: dict[str, dict[str, dict[str, Any]]] = {
    "PodDisruptionBudget": {"operator": {"podDisruptionBudget": {"enabled": False}}},
    "topologySpreadConstraints": {"operator": {"topologySpreadConstraints": []}},
    "priorityClassName": {"operator": {"priorityClassName": ""}},
    "PodMonitor": {"monitoring": {"podMonitor": {"enabled": False}}},
    "ServiceMonitor": {"monitoring": {"serviceMonitor": {"enabled": False}}},
    "PrometheusRule": {"monitoring": {"prometheusRule": {"enabled": False}}},
    "grafana_dashboard": {"monitoring": {"dashboard": {"enabled": False}}},
    "NetworkPolicy": {"networkPolicy": {"enabled": False}},
}
"""What is not in a rendering when its switch is off, whatever else is on."""


@pytest.mark.parametrize("word", OFF)
def test_a_switch_that_is_off_leaves_nothing_of_what_it_is_for(word):
    everything = PARTS | EVERYTHING
    below = {name: everything[name] | more for name, more in OFF[word].items()}
    assert word in json.dumps(_chosen(everything))
    assert word not in json.dumps(_chosen(everything | below))


def _chosen(values):
    """What is rendered but for the definitions, whose own words may be the same."""
    return [each for each in render(values) if each["kind"] != "CustomResourceDefinition"]


def test_pods_are_spread_over_nodes_by_their_own_labels():
    operator = one(render(EXISTING), "Deployment")["spec"]
    (spread,) = operator["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == operator["selector"]["matchLabels"]
