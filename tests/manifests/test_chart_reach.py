"""Who reaches whom: what NetworkPolicies let through, and where Prometheus is told to look."""

import pytest

from controller.test_deployment import fleet
from fibflow_operator.deployment import template
from manifests.charts import one, render
from manifests.test_chart import BUILT_IN, EVERYTHING, EXISTING, PARTS

DNS = {"ports": [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]}


def _tcp(*ports):
    return [{"port": port, "protocol": "TCP"} for port in ports]


def _policy(rendered, name):
    return one(rendered, "NetworkPolicy", name)["spec"]


def test_the_operator_reaches_names_the_api_server_and_the_database_and_is_asked_for_metrics_only():
    policy = _policy(render(EXISTING | {"networkPolicy": {"enabled": True}}), "my-fibflow-operator")
    assert policy["podSelector"] == one(render(EXISTING), "Deployment")["spec"]["selector"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": _tcp("http")}]
    assert policy["egress"] == [DNS, {"ports": _tcp(443, 6443)}, {"ports": _tcp(5432)}]


def test_who_asks_and_what_is_reached_are_narrowed_to_what_is_named_and_helm_test_still_passes():
    rendered = render(PARTS | EVERYTHING)
    policy, named = _policy(rendered, "tasks-operator"), EVERYTHING["networkPolicy"]
    *others, tested = policy["ingress"][0]["from"]
    assert others == named["metricsFrom"]
    assert tested["podSelector"]["matchLabels"].items() <= one(rendered, "Pod")["metadata"]["labels"].items()
    assert [rule.get("to") for rule in policy["egress"]] == [None, named["apiServerTo"], named["databaseTo"]]


def test_the_built_in_database_is_asked_on_its_port_and_reaches_nothing_itself():
    rendered = render(BUILT_IN | {"networkPolicy": {"enabled": True}})
    database = _policy(rendered, "my-fibflow-postgresql")
    assert database["podSelector"] == one(rendered, "StatefulSet")["spec"]["selector"]
    assert (database["ingress"], database["egress"]) == ([{"ports": _tcp("postgresql")}], [])
    assert _policy(rendered, "my-fibflow-operator")["egress"][2] == {
        "ports": _tcp(5432),
        "to": [{"podSelector": database["podSelector"]}],
    }


def test_where_all_else_is_denied_migrations_reach_the_database_before_anything_is_there_and_the_test_what_it_asks():
    rendered = render(EXISTING | {"networkPolicy": {"enabled": True}, "database": {"existingSecret": "mine", "port": 6432}})
    database, operator = {"ports": _tcp(6432)}, {"podSelector": _policy(rendered, "my-fibflow-operator")["podSelector"]}
    before, tested = _policy(rendered, "my-fibflow-migrations"), _policy(rendered, "my-fibflow-test")
    assert (before["ingress"], before["egress"]) == ([], [DNS, database])
    assert (tested["ingress"], tested["egress"]) == ([], [DNS, database, {"ports": _tcp(8080), "to": [operator]}])
    job = one(rendered, "Job")
    assert before["podSelector"]["matchLabels"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert tested["podSelector"]["matchLabels"].items() <= one(rendered, "Pod")["metadata"]["labels"].items()
    hook = one(rendered, "NetworkPolicy", "my-fibflow-migrations")["metadata"]["annotations"]
    assert hook["helm.sh/hook"] == job["metadata"]["annotations"]["helm.sh/hook"]
    assert int(hook["helm.sh/hook-weight"]) < int(job["metadata"]["annotations"]["helm.sh/hook-weight"])


def _monitored(**values):
    return render(EXISTING | {"monitoring": {"podMonitor": {"enabled": True, "labels": {"release": "mine"}}}} | values)


@pytest.mark.parametrize(("watched", "reached"), [([], {"any": True}), (["one", "two"], {"matchNames": ["one", "two"]})])
def test_prometheus_finds_the_workers_in_the_namespaces_that_are_watched(watched, reached):
    rendered = _monitored(watchNamespaces=watched)
    monitor = one(rendered, "PodMonitor", "my-fibflow-workers")
    assert monitor["metadata"]["labels"]["release"] == "mine"
    assert monitor["spec"]["namespaceSelector"] == reached
    pod = template(fleet(labels={"team": "blue"}))["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert _ports(monitor["spec"]["podMetricsEndpoints"]) <= _named(pod["spec"]["containers"][0]["ports"])


def test_prometheus_finds_the_operators_by_their_pods_or_by_their_service_and_never_by_both():
    by_pods, by_service = _monitored(), _monitored(monitoring={"serviceMonitor": {"enabled": True}})
    pod = one(by_pods, "Deployment")["spec"]["template"]
    monitor = one(by_pods, "PodMonitor", "my-fibflow-operator")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert _ports(monitor["podMetricsEndpoints"]) <= _named(pod["spec"]["containers"][0]["ports"])
    service, monitor = one(by_service, "Service"), one(by_service, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert _ports(monitor["endpoints"]) <= _named(service["spec"]["ports"])
    both = _monitored(monitoring={"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}})
    assert [each["metadata"]["name"] for each in both if each["kind"] == "PodMonitor"] == ["my-fibflow-workers"]


def _ports(endpoints):
    return {each["port"] for each in endpoints}


def _named(ports):
    return {each["name"] for each in ports}
