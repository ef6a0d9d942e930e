"""The cluster that the other tests stand on is a real one: pods, names, services, rollouts, nodes that are lost."""

import json
from pathlib import Path

import psycopg
import pytest

from cluster import Access
from e2e import pods

CRDS = sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
PODS_DATABASE = "import psycopg; print(psycopg.connect('{url}').execute('SELECT 6 * 7').fetchone()[0])"
ASK = """
import time, urllib.request
while True:  # a name and the way to its pods are known everywhere only a moment after the service is there
    try:
        print(urllib.request.urlopen('http://{host}/', timeout=2).status)
        break
    except OSError:
        time.sleep(0.2)
"""
SLEEP = "import signal; signal.pause()"


def run(cluster: Access, namespace: str, name: str, image: str, text: str) -> str:
    """What a pod's program prints until it has succeeded."""
    cluster.apply(pods.pod(name, image, text), namespace)
    cluster.wait("jsonpath={.status.phase}=Succeeded", f"pod/{name}", namespace=namespace)
    return cluster.kubectl("logs", "--namespace", namespace, name).strip()


def test_both_nodes_are_ready(own_cluster):
    own_cluster.wait("condition=Ready", "node/node1", "node/node2")
    assert {node.metadata.name for node in own_cluster.core.list_node().items} == {"node1", "node2"}


def test_a_pod_reaches_the_database(own_cluster, namespace, image):
    program = PODS_DATABASE.format(url=own_cluster.postgres.url())
    assert run(own_cluster, namespace, "client", image, program) == "42"


def test_the_database_is_reached_from_outside(own_cluster):
    url = own_cluster.postgres.url(address="127.0.0.1", port=own_cluster.postgres_port)
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_a_pod_finds_a_service_by_its_name(own_cluster, namespace, image):
    own_cluster.apply(pods.web("web", image, replicas=1), namespace)
    own_cluster.apply(pods.service("web", 8000), namespace)
    own_cluster.wait("condition=Available", "deployment/web", namespace=namespace)
    assert run(own_cluster, namespace, "client", image, ASK.format(host="web")) == "200"


def test_a_deployment_rolls_over_two_nodes(own_cluster, namespace, image):
    own_cluster.apply(pods.web("web", image, replicas=4), namespace)
    own_cluster.wait("condition=Available", "deployment/web", namespace=namespace)
    before = placed(own_cluster, namespace)
    own_cluster.kubectl("rollout", "restart", "--namespace", namespace, "deployment/web")
    own_cluster.kubectl("rollout", "status", "--namespace", namespace, "deployment/web", "--timeout=60s")
    after = placed(own_cluster, namespace)
    assert set(before.values()) == set(after.values()) == {"node1", "node2"}
    assert not before.keys() & after.keys()


def placed(cluster: Access, namespace: str) -> dict[str, str]:
    """The pods of the namespace that are not on their way out, and their nodes."""
    found = json.loads(cluster.kubectl("get", "pods", "--namespace", namespace, "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in found if "deletionTimestamp" not in pod["metadata"]}


@pytest.mark.parametrize("file", CRDS, ids=lambda file: file.stem)
def test_the_resources_are_accepted_and_explained(cluster, file):
    cluster.install(file)
    assert "FIELDS:" in cluster.kubectl("explain", f"{file.stem}.spec")
