"""Workers as pods: a WorkerPool becomes a Deployment whose pods run tasks; what keeps them from it is said, and mended."""

import json

import pytest

from cluster import until
from e2e.fleets import bound, pods_of, pool
from e2e.planes import quiet
from fibflow import Client, Status


@pytest.fixture
def client(staffed):
    with Client(staffed.url, namespace=staffed.namespace) as opened:
        yield opened


def deployment(plane, name="pool-pool"):
    return json.loads(plane.cluster.kubectl("get", "deployment", name, "-n", plane.namespace, "-o", "json"))


def completed(client, task_id, seconds=60):
    until(lambda: client.get(task_id).status is Status.COMPLETED, seconds, f"task {task_id} completes")


def test_a_pool_becomes_pods_that_run_tasks_and_a_settled_one_is_left_alone(staffed, client, fleet_image):
    staffed.apply(pool(fleet_image, replicas=2), bound())
    staffed.start()
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    completed(client, client.enqueue("work", {"seconds": 0.1}))
    status = staffed.get("WorkerPool", "pool")["status"]
    assert (status["replicas"], status["ready"], status["selector"]) == (2, 2, "fibflow.dev/pool=pool")
    made = deployment(staffed)
    assert made["metadata"]["ownerReferences"][0]["kind"] == "WorkerPool"
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert staffed.cluster.field(".spec.maxUnavailable", "pdb/pool-pool", namespace=staffed.namespace) == "1"
    rows = staffed.sql("SELECT pod_id, pod_uid, pool FROM fibflow.worker WHERE status = 'active'")
    assert set(rows) == {(pod["metadata"]["name"], pod["metadata"]["uid"], "pool") for pod in pods_of(staffed)}
    assert quiet(lambda: len(staffed.api_writes()), 6)
