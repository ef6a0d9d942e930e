"""The operator's rights: what it did, as the proxy saw it in the whole run, is what operator/rbac.yaml allows.

It comes after all others, and does itself what needs a reason to be done.
"""

import pytest

from cluster import until
from cluster.calls import rules as needed
from e2e import planes
from e2e.planes import cron_task, resource, task_type
from fibflow import Client
from fibflow.store import leases
from fibflow.store.leases import Origin

pytestmark = pytest.mark.last


def allowed() -> set[tuple[str, str, str]]:
    return {
        (group, name, verb)
        for rule in planes.rules()
        for group in rule["apiGroups"]
        for name in rule["resources"]
        for verb in rule["verbs"]
    }


def change_workers(plane):
    """A pool's Deployment is made, changed and scaled, a worker that was to go is to stay, and a type's own Deployment goes."""
    scaling = {"policy": "Backlog"}
    plane.apply(resource("WorkerPool", "scaled", app="a:b", image="localhost/none:1", scaling=scaling))
    plane.apply(task_type("bound", workerPoolRef={"name": "scaled"}))
    plane.apply(task_type("own", worker={"app": "a:b", "image": "localhost/none:1"}))
    plane.cluster.wait("create", "deployment/own-type", namespace=plane.namespace)
    plane.cluster.wait("create", "deployment/scaled-pool", namespace=plane.namespace)
    plane.apply(resource("WorkerPool", "scaled", app="c:d", image="localhost/none:1", scaling=scaling))
    lazy = ("--type=merge", "--patch", '{"spec": {"maxUnavailable": 0}}')
    plane.cluster.wait("create", "pdb/scaled-pool", namespace=plane.namespace)
    plane.cluster.kubectl("patch", "--namespace", plane.namespace, "pdb", "scaled-pool", *lazy)
    plane.proxy.journal.wait_for(verb="patch", resource="poddisruptionbudgets", user=plane.user)
    plane.cluster.wait("jsonpath={.spec.maxUnavailable}=1", "pdb/scaled-pool", namespace=plane.namespace)
    plane.wait_sql(1, "SELECT count(*) FROM fibflow.task_type WHERE pool = 'scaled'")
    with Client(plane.url, namespace=plane.namespace) as client:
        origin = Origin(pod_uid="gone", pool="scaled")
        client.database.call(leases.register, pod_id="gone", host="node", pid=1, slots=1, lease=600.0, origin=origin)
        plane.sql("UPDATE fibflow.worker SET draining = true")
        client.enqueue("bound")
    plane.proxy.journal.wait_for(verb="patch", resource="deployments/scale", user=plane.user)
    plane.proxy.journal.wait_for(verb="patch", resource="pods", user=plane.user)
    release_a_pod(plane)
    plane.apply(task_type("own", workerPoolRef={"name": "scaled"}))
    plane.proxy.journal.wait_for(verb="delete", resource="poddisruptionbudgets", user=plane.user)
    plane.proxy.journal.wait_for(verb="delete", resource="deployments", user=plane.user)


def release_a_pod(plane):
    """A pod of the pool is to be nobody's: it is looked up and lives."""
    pods = ("pods", "-n", plane.namespace, "-l", "fibflow.dev/pool=scaled")
    until(lambda: plane.cluster.kubectl("get", *pods, "-o", "name"), 60, "the pool has a pod")
    plane.cluster.kubectl("label", *pods, "fibflow.dev/pool-")
    plane.proxy.journal.wait_for(verb="get", resource="pods", user=plane.user)
    plane.wait_log("pod_lives")
    assert plane.sql("SELECT count(*) FROM fibflow.fenced_pod WHERE pod_uid <> 'gone'") == [(0,)]


def test_the_calls_of_the_whole_run_are_the_rules_and_none_was_denied(plane):
    plane.apply(task_type("work"), resource("WorkerPool", "pool", app="a:b"), cron_task("wrong", schedule="0 0 30 2 *"))
    plane.start()
    change_workers(plane)
    plane.wait_condition("CronTask", "wrong", status="False")
    plane.wait_condition("WorkerPool", "pool", "Synced", status="True")
    plane.proxy.journal.wait_for(verb="create", resource="events", user=plane.user)
    plane.proxy.journal.wait_for(verb="update", resource="leases", user=plane.user)
    seen = [*planes.SEEN, *plane.proxy.journal.calls(user=plane.user)]
    assert [call for call in seen if call.status == 403 and not call.fault] == []
    assert needed(seen) == allowed()
