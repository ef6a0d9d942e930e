"""The chart's values: what is wrong is refused by its name, and nothing is taken that nobody reads."""

import json
import runpy
from collections.abc import Iterator

import pytest
import yaml

from manifests.charts import CHART, HELMS, ROOT, Refused, Resource, one, render
from manifests.test_chart import EXISTING

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
OPEN = {
    ".global": "is for all charts of a parent; which values it has is theirs to say",
    ".operator.affinity.nodeAffinity": "a tree that grows with Kubernetes, whose API server checks it",
    ".operator.affinity.podAffinity": "the same",
    ".operator.affinity.podAntiAffinity": "the same",
}
"""What takes fields that the schema does not know, and why."""


def _spread(**more: object) -> Resource:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    return {"operator": {"topologySpreadConstraints": [constraint | more]}}


def _secret(**more: object) -> Resource:
    return {"database": {"existingSecret": "mine", **more}}


def _built_in(**more: object) -> Resource:
    return {"postgresql": {"enabled": True}, "database": more}


def _parts(**more: object) -> Resource:
    return {"database": {"host": "db", **more}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"opperator": {}}, "'opperator' not allowed"),
        ({"operator": {"replica": 2}}, "'replica' not allowed"),
        ({"operator": {"replicas": "two"}}, "/operator/replicas': got string, want integer"),
        ({"operator": {"logLevel": "LOUD"}}, "/operator/logLevel': value must be one of"),
        ({"watchNamespaces": "one"}, "/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["No_Name"]}, "/watchNamespaces/0'"),
        ({"crds": {"keep": "yes"}}, "/crds/keep': got string, want boolean"),
        ({"image": {"digest": "sha256:short"}}, "/image/digest'"),
        ({"database": {"port": 70000}}, "/database/port'"),
        ({"database": {"host": "user@db"}}, "/database/host'"),
        ({"database": {"host": "db:5433"}}, "/database/host'"),
        ({"database": {"host": "::1"}}, "/database/host'"),
        ({"fullnameOverride": "2nd"}, "/fullnameOverride'"),
        ({"commonLabels": {"app.kubernetes.io/name": "mine"}}, "invalid propertyName 'app.kubernetes.io/name'"),
        ({"operator": {"podLabels": {"app.kubernetes.io/component": "mine"}}}, "'app.kubernetes.io/component'"),
        ({"operator": {"env": [{"name": "FIBFLOW_LEASE", "value": "x"}]}}, "/operator/env/0/name'"),
        ({"commonLabels": {"team": "blue and green"}}, "/commonLabels/team'"),
        ({"postgresql": {"persistence": {"size": "big"}}}, "/postgresql/persistence/size'"),
        ({"operator": {"resources": {"limits": {"memory": "lots"}}}}, "/operator/resources/limits/memory'"),
        ({"migrations": {"resources": {"requests": {"cpu": -1}}}}, "/migrations/resources/requests/cpu'"),
        ({"operator": {"resources": {"claims": [{"name": "gpu"}]}}}, "'claims' not allowed"),
        ({"operator": {"podAnnotations": {"two words": "x"}}}, "invalid propertyName 'two words'"),
        ({"serviceAccount": {"annotations": {"/role": "x"}}}, "invalid propertyName '/role'"),
        ({"operator": {"nodeSelector": {"disk!": "fast"}}}, "invalid propertyName 'disk!'"),
        ({"operator": {"nodeSelector": {"disk": "very fast"}}}, "/operator/nodeSelector/disk'"),
        ({"operator": {"env": [{"name": "A", "valueFrom": {"secretRef": {}}}]}}, "'secretRef' not allowed"),
        ({"operator": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}}, "missing property 'key'"),
        (
            {"operator": {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}]}},
            "/operator/env/0'",
        ),
        (_spread(labelSelector={"app": "mine"}), "'app' not allowed"),
        (_spread(labelSelector={"matchExpressions": [{"key": "app", "operator": "Is"}]}), "/matchExpressions/0/operator'"),
        ({"networkPolicy": {"metricsFrom": [{"podSelector": {"app": "mine"}}]}}, "'app' not allowed"),
        ({"networkPolicy": {"databaseTo": [{"ipBlock": {"cidr": "10.0.0.1"}}]}}, "/databaseTo/0/ipBlock/cidr'"),
        ({"networkPolicy": {"databaseTo": [{"ipBlock": {"cidr": "10.0.0.1/8"}, "podSelector": {}}]}}, "/databaseTo/0'"),
        ({"monitoring": {"podMonitor": {"labels": {"app.kubernetes.io/name": "mine"}}}}, "'app.kubernetes.io/name'"),
        ({"monitoring": {"podMonitor": {"interval": 30}}}, "/monitoring/podMonitor/interval': got number, want string"),
        ({"monitoring": {"prometheusRule": {"runbooks": "docs/runbooks.md"}}}, "/monitoring/prometheusRule/runbooks'"),
        ({"serviceAccount": {"create": False}}, "Set serviceAccount.name"),
        ({"database": {"existingSecret": ""}}, "fibflow needs a PostgreSQL"),
        ({"database": {"existingSecret": "mine", "host": "db"}}, "Set only one of"),
        ({"postgresql": {"enabled": True}}, "Set only one of"),
        (_secret(operator={"user": "op"}), "Nobody reads database.operator.user beside database.existingSecret. Leave one"),
        (_secret(workers={"user": "w", "password": "p"}), "database.workers.password, database.workers.user beside"),
        (_secret(workers={"namespaces": ["one"]}), "Nobody reads database.workers.namespaces beside database.existingSecret"),
        (_secret(name="tasks", sslmode="require"), "Nobody reads database.name, database.sslmode beside"),
        (_built_in(operator={"password": "p"}), "Nobody reads database.operator.password beside postgresql.enabled"),
        (_built_in(migrations={"user": "owner"}), "Nobody reads database.migrations.user beside postgresql.enabled"),
        (_built_in(port=5433), "Nobody reads database.port beside postgresql.enabled"),
        (_built_in(host="db"), "Set only one of"),
        (_parts(keys={"operator": "uri"}), "Nobody reads database.keys.operator beside database.host"),
        (
            _parts(workers={"password": "p"}),
            "Nobody reads database.workers.password without database.workers.user. Set the user",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(values, said):
    given = values if "database" in values else EXISTING | values
    for major in HELMS:
        with pytest.raises(Refused) as refused:
            render(given, major=major)
        assert said in str(refused.value)


def test_what_kubernetes_takes_is_taken_as_it_is():
    resources = {
        "requests": {"cpu": 0.5, "memory": "1.5Gi", "vendor.example/gpu": 1},
        "limits": {"memory": "1e9", "cpu": "100m"},
    }
    chosen = {
        "matchLabels": {"app.kubernetes.io/name": "x"},
        "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
    }
    peers = [{"podSelector": {}, "namespaceSelector": chosen}, {"ipBlock": {"cidr": "fd00::/8", "except": ["fd00::1/128"]}}]
    env = [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    asked = {"resources": resources, "env": env, "nodeSelector": {"kubernetes.io/os": "linux"}}
    operator = _spread(labelSelector=chosen)["operator"] | asked
    policy = {"enabled": True, "metricsFrom": peers}
    pod = one(render(EXISTING | {"operator": operator, "networkPolicy": policy}), "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == resources
    assert pod["topologySpreadConstraints"][0]["labelSelector"] == chosen


@pytest.mark.parametrize(
    "values",
    [
        _secret(port=5433, keys={"operator": "uri"}, workers={"secretName": "address"}),
        _built_in(workers={"namespaces": ["one"], "secretName": "address"}),
        _parts(port=5433, workers={"user": "w", "password": "p", "namespaces": ["one"]}, migrations={"user": "owner"}),
    ],
)
def test_what_somebody_reads_is_taken(values):
    assert render(values)


def test_every_value_has_its_line_and_its_place_in_the_schema():
    """No value without a comment; none that the schema does not know, and the other way round."""
    told = runpy.run_path(str(ROOT / "tools" / "reference.py"))["chart_values"]()
    assert [each.path for each in told if not each.comment] == []
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert _differences(defaults, SCHEMA, "") == []


def _differences(value, schema, path):
    if not (isinstance(value, dict) and "properties" in schema):
        return []
    known = schema["properties"].keys() - {"global"}
    found = [f"{path}.{name}" for name in known ^ value.keys()]
    return found + [
        line
        for name in known & value.keys()
        for line in _differences(value[name], schema["properties"][name], f"{path}.{name}")
    ]


def test_nothing_takes_what_the_schema_does_not_know_but_for_what_is_argued():
    assert set(_open(SCHEMA, "")) == OPEN.keys()


def _open(schema: Resource, path: str) -> Iterator[str]:
    """The places at and below a schema where anything goes."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if not _bounded(schema):
        yield path
    for name, each in _below(schema):
        yield from _open(each, f"{path}.{name}")


def _bounded(schema: Resource) -> bool:
    match schema.get("type"):
        case "object":
            return schema.get("additionalProperties") is False or {"additionalProperties", "propertyNames"} <= schema.keys()
        case "array":
            return "items" in schema
        case plain:
            return plain is not None or "enum" in schema


def _below(schema: Resource) -> Iterator[tuple[str, Resource]]:
    yield from schema.get("properties", {}).items()
    for name in ("additionalProperties", "items"):
        if schema.get(name):
            yield "*", schema[name]
