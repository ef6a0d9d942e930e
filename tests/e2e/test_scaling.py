"""Pools that scale: from nothing within half a second, back to nothing, idle workers first, and by others' hands."""

import json
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from cluster import Cluster, until
from e2e.figures import record
from e2e.fleets import bound, container_id, pods_of, pool
from e2e.planes import FULL, ONLY_IN_FULL, Plane, cron_task
from e2e.sightings import DEPLOYMENTS, POOLS, sightings
from fibflow import Client, Status
from fibflow.store.synced import Name
from fibflow_operator.deployment import applied_form, seed
from fibflow_operator.fleet import fleet_of, rule_of
from fibflow_operator.kube import workloads
from fibflow_operator.kube.api import Api
from fibflow_operator.world import seen

BACKLOG = {"policy": "Backlog", "minReplicas": 0, "maxReplicas": 4, "targetWaitSeconds": 1, "scaleDownDelaySeconds": 0}


@pytest.fixture
def client(staffed):
    with Client(staffed.url, namespace=staffed.namespace) as opened:
        yield opened


def asked(plane) -> int:
    return int(plane.cluster.field(".spec.replicas", "deployment/pool-pool", namespace=plane.namespace) or 0)


def started(plane, image, **spec) -> None:
    """An operator, and a pool without pods."""
    plane.apply(pool(image, **({"slots": 1, "scaling": BACKLOG, "drainSeconds": 20} | spec)), bound())
    plane.start()
    plane.wait_condition("WorkerPool", "pool", status="True", seconds=60)


def test_r4_one_enqueue_scales_from_nothing_and_the_task_starts_with_its_pod(staffed, client, own_cluster, fleet_image):
    started(staffed, fleet_image)
    scaled, begun, claimed = [], [], []
    with (
        sightings(own_cluster, staffed.namespace, DEPLOYMENTS) as deployments,
        sightings(own_cluster, staffed.namespace) as pods,
    ):
        for _ in range(10 if FULL else 3):
            begin = time.monotonic()
            task_id = client.enqueue("work", {"seconds": 0.5})
            scaled.append(deployments.wait(lambda each: each.replicas == 1, begin).at - begin)
            ready = pods.wait(lambda each: each.ready and not each.leaving, begin)
            until(partial(_past, client, [task_id], Status.PENDING), 20, "it starts")
            begun.append(max(time.monotonic() - ready.at, 0.0))
            began = container_began(own_cluster, ready.pod)
            until(partial(_past, client, [task_id], Status.PENDING, Status.RUNNING), 20, "it ends")
            claimed.append(first_claim(staffed, task_id) - began)
            until(partial(_left, staffed, 0), 60, "nothing is left")
    assert record("R4", "zero pods, one enqueue: the Deployment is scaled", scaled, 0.5), scaled
    assert record("R4 start", "zero pods: the task is seen started, after its pod is Ready", begun, 1.0), begun
    assert record("R5", "a worker's container starts: its first claim", claimed, 3.0), claimed
    told = staffed.get("WorkerPool", "pool")["status"]
    assert told["scaling"]["replicas"] == 0
    assert staffed.condition("WorkerPool", "pool", "ScalingActive")["reason"] == "BacklogDecides"


def first_claim(plane, task_id) -> float:
    """When a task was claimed, in seconds since 1970."""
    ((at,),) = plane.sql("SELECT started_at FROM fibflow.attempt WHERE task_id = %s", task_id)
    return float(at) / 1e6


def container_began(cluster: Cluster, pod: dict[str, Any]) -> float:
    """The same of its worker's container."""
    node = next(node for node in cluster.nodes if node.name == pod["spec"]["nodeName"])
    return node.began(container_id(pod))


def test_a_pool_is_warmed_before_a_cron_tick_which_runs_at_its_instant(staffed, fleet_image):
    started(staffed, fleet_image)
    ((soon,),) = staffed.sql("SELECT extract(epoch FROM now())::bigint + 15")
    at = time.gmtime(soon)
    staffed.apply(cron_task("soon", "work", schedule=f"{at.tm_sec} {at.tm_min} {at.tm_hour} * * *", payload={"seconds": 0}))
    staffed.wait_log("WarmUp")
    staffed.wait_sql(soon * 1_000_000, "SELECT max(tick) FROM fibflow.cron_tick WHERE decision = 'run'")
    staffed.wait_sql(1, "SELECT count(*) FROM fibflow.attempt WHERE outcome = 'completed'")
    ((late,),) = staffed.sql("SELECT a.started_at - t.tick FROM fibflow.attempt a JOIN fibflow.cron_tick t USING (task_id)")
    assert late < 1_000_000, "its worker was there"


def test_of_busy_and_idle_workers_only_the_idle_ones_go(staffed, client, fleet_image):
    started(staffed, fleet_image)
    victims = []
    for _ in range(20 if FULL else 2):
        long = [client.enqueue("work", {"seconds": 600}) for _ in range(2)]
        short = [client.enqueue("work", {"seconds": 4}) for _ in range(2)]
        running = "SELECT count(*) FROM fibflow.task WHERE state = 'running'"
        staffed.wait_sql(4, running, seconds=90)
        owners = {pod for (pod,) in staffed.sql(OWNERS, long)}
        until(partial(_past, client, short, Status.PENDING, Status.RUNNING), 30, "two end")
        until(partial(_left, staffed, 2), 60, "two workers go")
        victims.append(float(len(owners - {pod["metadata"]["name"] for pod in pods_of(staffed)})))
        assert [client.get(each).attempt for each in long] == [1, 1]
        for each in long:
            client.cancel(each)
    assert record("R4 victims", "half the workers busy, scaled down: busy pods that went", victims, 0.0, 0.0), victims
    assert staffed.sql("SELECT count(*) FROM fibflow.attempt WHERE outcome = 'interrupted'") == [(0,)]


def _past(client: Client, task_ids: list[int], *statuses: Status) -> bool:
    """Whether none of the tasks has one of these statuses any more."""
    return all(client.get(each).status not in statuses for each in task_ids)


def _left(plane: Plane, pods: int) -> bool:
    """Whether so many pods are asked for, and there are as many."""
    return asked(plane) == pods == len(pods_of(plane))


OWNERS = "SELECT w.pod_id FROM fibflow.task t JOIN fibflow.worker w ON w.id = t.worker_id WHERE t.id = ANY(%s)"


def test_nothing_goes_while_a_rollout_is_in_progress_and_what_is_idle_goes_after_it(staffed, client, own_cluster, fleet_image):
    started(staffed, fleet_image)
    tasks = [client.enqueue("work", {"seconds": 3}) for _ in range(2)]
    staffed.wait_sql(2, "SELECT count(*) FROM fibflow.task WHERE state = 'running'", seconds=90)
    with sightings(own_cluster, staffed.namespace, DEPLOYMENTS) as deployments:
        stuck = {"image": "localhost/nowhere:1", "imagePullPolicy": "IfNotPresent"}
        staffed.apply(pool(fleet_image, slots=1, scaling=BACKLOG, **stuck))
        until(partial(_past, client, tasks, Status.PENDING, Status.RUNNING), 30, "both end")
        reason = partial(staffed.cluster.field, ".status.scaling.reason", "workerpool/pool", namespace=staffed.namespace)
        until(lambda: reason() == "Rollout", 30, "fewer are wanted, and none may go")
        assert {each.replicas for each in deployments.seen} == {2}
        staffed.apply(pool(fleet_image, slots=1, scaling=BACKLOG, drainSeconds=19))
        fewer = deployments.wait(lambda each: each.replicas < 2)
        assert fewer.pod["status"]["updatedReplicas"] == fewer.pod["status"]["readyReplicas"] == 2
    assert [client.get(each).attempt for each in tasks] == [1, 1]


def test_a_scale_that_was_decided_on_an_older_deployment_or_another_is_refused(plane):
    api = Api(str(plane.kubeconfig))
    head = {"name": "pool", "namespace": plane.namespace, "uid": "u1", "resourceVersion": "1"}
    spec = {"app": "a:b", "image": "localhost/none:1"}
    fleet = fleet_of(seen({"kind": "WorkerPool", "metadata": head, "spec": spec}), rule_of(spec))
    made = workloads.create(api, fleet.deployment, _orphan(seed(fleet)))
    applied = workloads.apply(api, fleet.deployment, _orphan(applied_form(fleet)))
    assert not workloads.scale(api, made, 1)
    assert not workloads.scale(api, replace(applied, name=Name(plane.namespace, "gone-pool")), 1)
    field = partial(plane.cluster.field, namespace=plane.namespace)
    until(lambda: field(".status.observedGeneration", "deployment/pool-pool") == str(applied.generation), 20, "it is settled")
    now = replace(applied, version=int(field(".metadata.resourceVersion", "deployment/pool-pool")))
    assert not workloads.scale(api, replace(now, uid=str(uuid.uuid4())), 1)
    assert asked(plane) == 0
    assert workloads.scale(api, now, 1)
    assert asked(plane) == 1


def _orphan(body):
    """Without an owner that is not there: whose is gone is collected."""
    return {**body, "metadata": {name: value for name, value in body["metadata"].items() if name != "ownerReferences"}}


@ONLY_IN_FULL
def test_demand_that_returns_takes_the_mark_back(staffed, client, fleet_image):
    started(staffed, fleet_image, scaling={**BACKLOG, "minReplicas": 2, "scaleDownDelaySeconds": 0})
    staffed.wait_sql(2, "SELECT count(*) FROM fibflow.worker WHERE status = 'active'", seconds=90)
    staffed.sql("UPDATE fibflow.worker SET draining = true WHERE status = 'active'")
    task_id = client.enqueue("work")
    until(lambda: client.get(task_id).status is Status.COMPLETED, 30, "a worker whose mark was taken back runs it")
    staffed.wait_sql(0, "SELECT count(*) FROM fibflow.worker WHERE draining AND status = 'active'")


def test_the_scale_of_a_pool_is_obeyed_where_replicas_decide_and_refused_where_the_backlog_does(staffed, fleet_image):
    staffed.apply(pool(fleet_image), pool(fleet_image, "own", scaling=BACKLOG))
    staffed.start()
    scale = ("scale", "-n", staffed.namespace, "--replicas=2")
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    staffed.cluster.kubectl(*scale, "workerpool/pool")
    until(lambda: len(pods_of(staffed)) == 2, 60, "two pods")
    staffed.wait_condition("WorkerPool", "pool", "ScalingActive", status="False", reason="ReplicasDecide")
    with pytest.raises(RuntimeError, match="replicas cannot be changed"):
        staffed.cluster.kubectl(*scale, "workerpool/own")


@ONLY_IN_FULL
def test_an_autoscaler_on_the_pool_is_obeyed_and_nobody_fights(staffed, own_cluster, fleet_image):
    staffed.apply(pool(fleet_image, scaling={"policy": "External"}))
    staffed.start()
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    target = {"apiVersion": "fibflow.dev/v1alpha1", "kind": "WorkerPool", "name": "pool"}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3, "metrics": [metric]}
    autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "pool"}, "spec": spec}
    staffed.cluster.apply(json.dumps(autoscaler), staffed.namespace)
    until(lambda: asked(staffed) == 2, 60, "its bounds are obeyed")
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    with (
        sightings(own_cluster, staffed.namespace, DEPLOYMENTS) as deployments,
        sightings(own_cluster, staffed.namespace, POOLS) as pools,
    ):
        deployments.wait(lambda each: True)
        pools.wait(lambda each: True)
        time_passes(300 if FULL else 20, lambda: [each.replicas for each in deployments.seen + pools.seen])


def time_passes(seconds: float, replicas) -> None:
    """Nobody asks for another number meanwhile."""
    begin = time.monotonic()
    until(lambda: set(replicas()) != {2} or time.monotonic() - begin > seconds, seconds + 10, "time passes")
    assert set(replicas()) == {2}
