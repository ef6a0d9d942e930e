"""What the chart makes has a name wherever it is installed, and pods as they are asked to be."""

import re

import kubernetes_validate
import pytest

from manifests.charts import Refused, one, pods, render
from manifests.test_chart import BUILT_IN, EVERYTHING, EXISTING, PARTS

LABEL = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")
LONGEST = {"StatefulSet": 52, "Service": 63, "Job": 63}
"""A StatefulSet's name and a hash are a label of its pods."""


@pytest.mark.parametrize(("release", "namespace"), [("r" * 53, "n" * 63), ("on", "2024"), ("off-and-on", "1e3")])
@pytest.mark.parametrize("given", [PARTS, BUILT_IN])
def test_long_names_and_names_that_yaml_takes_for_something_else_stay_names(given, release, namespace):
    values = given | {"watchNamespaces": ["2025"], "serviceAccount": {"name": "7"}, "operator": {"priorityClassName": "null"}}
    rendered = render(values, release=release, namespace=namespace)
    for resource in rendered:
        kubernetes_validate.validate(resource, "1.34", strict=True)
        metadata = resource["metadata"]
        assert metadata.get("namespace", namespace) in (namespace, "2025")
        assert len(metadata["name"]) <= LONGEST.get(resource["kind"], 253)
        assert metadata["labels"]["app.kubernetes.io/instance"] == release
        assert all(LABEL.fullmatch(value) for value in metadata["labels"].values())
    assert one(rendered, "Deployment")["spec"]["template"]["spec"]["priorityClassName"] == "null"


@pytest.mark.parametrize("release", ["2nd", "my.app"])
def test_a_release_whose_name_is_none_for_a_service_is_refused_and_told_the_way_out(release):
    with pytest.raises(Refused, match="Set fullnameOverride"):
        render(EXISTING, release=release)
    assert one(render(EXISTING | {"fullnameOverride": "mine"}, release=release), "Service")


def test_the_operators_pods_are_as_they_are_asked_to_be():
    asked = EVERYTHING["operator"]
    template = one(render(PARTS | EVERYTHING), "Deployment")["spec"]["template"]
    pod, (container,) = template["spec"], template["spec"]["containers"]
    assert template["metadata"]["labels"].items() >= asked["podLabels"].items()
    assert template["metadata"]["annotations"].items() >= asked["podAnnotations"].items()
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[name] == asked[name]
    assert container["env"][-1:] == asked["env"] and container["resources"]["limits"] == asked["resources"]["limits"]
    assert container["image"] == f"fibflow-operator@{EVERYTHING['image']['digest']}"


@pytest.mark.parametrize("given", [PARTS, BUILT_IN])
def test_every_pod_of_the_chart_runs_where_it_may_and_is_pulled_as_it_must_be(given):
    for where, pod in pods(render(given | EVERYTHING)):
        assert pod["nodeSelector"] == EVERYTHING["operator"]["nodeSelector"], where
        assert pod["tolerations"] == EVERYTHING["operator"]["tolerations"], where
        assert pod["imagePullSecrets"] == EVERYTHING["imagePullSecrets"], where


def test_a_rollout_waits_for_operators_that_have_seen_their_database_and_no_kubelet_does():
    (container,) = one(render(EXISTING), "Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_a_large_user_id_is_a_number_still():
    given = {"postgresql": {"enabled": True, "runAsUser": 1000680000}}
    security = one(render(given), "StatefulSet")["spec"]["template"]["spec"]["securityContext"]
    assert {str(security[name]) for name in ("runAsUser", "runAsGroup", "fsGroup")} == {"1000680000"}


def test_all_but_one_of_the_operators_may_be_counted_on():
    rendered = render(EXISTING)
    budget = one(rendered, "PodDisruptionBudget")["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, one(rendered, "Deployment")["spec"]["selector"])
