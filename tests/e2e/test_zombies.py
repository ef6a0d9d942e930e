"""Zombies: workers that go on after they were given up for dead. What they write is refused, and they never come back."""

import json
import sys
import time
from typing import Any

import pytest

from cluster import until
from cluster.network import Direction
from cluster.node import Node
from e2e.grounds import AGAIN, OWNER, STATUS, Ground, Victim
from e2e.planes import ONLY_IN_FULL
from e2e.sightings import moment_of
from fibflow import NewTask
from scraping import value

LATE = 6
"""Tasks that write, of which those of one pod will do so too late."""
COUNTED = "fibflow_stale_writes_total"
HELD = 10.0
"""Seconds, at least, for which the network keeps what was written."""
WRITING = "SELECT count(*) FROM fibflow.task WHERE id = ANY(%s) AND progress_text IS NOT NULL"
ENDS = "SELECT task_id, attempt, outcome FROM fibflow.attempt WHERE task_id = ANY(%s) ORDER BY 1, 2"
REFUSED = "SELECT count(*) FROM fibflow.stale_write WHERE task_id = ANY(%s) AND fence = 1 AND worker_id = %s"


@ONLY_IN_FULL
def test_what_a_worker_writes_that_was_stopped_past_its_lease_is_refused_and_counted(ground):
    ground.plane._started[0].end()  # it would put the probes right, which are to let a stopped process be
    let_be(ground)
    tasks, victim = writing(ground)
    container = ground.cluster.container_of(victim.pod, ground.plane.namespace)
    node = ground.cluster.node_of(victim.pod, ground.plane.namespace)
    node.ctr("tasks", "kill", "--signal", "SIGSTOP", container)
    done = finished_elsewhere(ground, tasks)
    node.ctr("tasks", "kill", "--signal", "SIGCONT", container)
    moment_of(ground.database, len(tasks), REFUSED, tasks, victim.worker_id)
    assert finished_elsewhere(ground, tasks) == done
    path = f"/api/v1/namespaces/{ground.plane.namespace}/pods/{victim.pod}:8080/proxy/metrics"
    assert value(ground.cluster.kubectl("get", "--raw", path), COUNTED) == recorded(ground, victim) == len(tasks)
    ground.refused(victim)


@ONLY_IN_FULL
def test_what_was_written_when_the_cable_was_cut_and_arrives_when_the_pod_is_fenced_is_refused_and_counted(ground):
    tasks, victim = writing(ground)
    address = ground.cluster.field(".status.podIP", f"pod/{victim.pod}", namespace=ground.plane.namespace)
    node = ground.cluster.node_of(victim.pod, ground.plane.namespace)
    node.cut(Direction.DATABASE)
    node.cut(Direction.API)
    cut = time.monotonic()
    try:
        ground.delete(victim.pod, "--grace-period=0", "--force")
        done = finished_elsewhere(ground, tasks)
        assert ground.plane.sql("SELECT count(*) FROM fibflow.fenced_pod WHERE pod_uid = %s", victim.uid) == [(1,)]
        until(lambda: time.monotonic() - cut > HELD, HELD, "the network has kept it for so long")
        # What is on its way arrives; the worker itself, whose connections gave up, cannot hear that it is fenced.
        node.cut(Direction.DATABASE, only_new=True)
        node.heal(Direction.DATABASE)
        moment_of(ground.database, len(tasks), REFUSED, tasks, victim.worker_id)
        assert finished_elsewhere(ground, tasks) == done
        assert value(scraped(ground, address), COUNTED) == recorded(ground, victim) == len(tasks)
    finally:
        node.heal(Direction.API)
        node.heal(Direction.DATABASE, only_new=True)
        ground.back(node)
    registered = "SELECT count(*) FROM fibflow.worker WHERE pod_uid = %s AND id > %s"
    assert ground.plane.sql(registered, victim.uid, victim.worker_id) == [(0,)]


def let_be(ground: Ground) -> None:
    """Have pods that nobody kills because they do not answer."""
    probe = {"failureThreshold": 1000}
    container = {"name": "worker", "livenessProbe": probe}
    patch = json.dumps({"spec": {"template": {"spec": {"containers": [container]}}}})
    here = ("-n", ground.plane.namespace, "deployment/pool-pool")
    ground.cluster.kubectl("patch", *here, "--patch", patch)
    ground.cluster.kubectl("rollout", "status", *here, "--timeout=120s")
    ground.ready()


def writing(ground: Ground) -> tuple[list[int], Victim]:
    """Tasks that write all the time on one pod, and that pod."""
    tasks = ground.client.enqueue_many([NewTask("late")] * LATE)
    moment_of(ground.database, LATE, WRITING, tasks)
    ((worker_id, pod, uid),) = ground.plane.sql(OWNER, tasks[0])
    theirs = {task_id for task_id in tasks if ground.plane.sql(OWNER, task_id) != [(worker_id, pod, uid)]}
    for task_id in theirs:
        ground.client.cancel(task_id)
    return sorted(set(tasks) - theirs), Victim(tasks[0], worker_id, pod, uid)


def finished_elsewhere(ground: Ground, tasks: list[int]) -> Any:
    """What the database says of the tasks and their attempts once all are completed, each once."""
    final = "SELECT count(*) FROM fibflow.task_final WHERE id = ANY(%s) AND status = 'completed'"
    moment_of(ground.database, len(tasks), final, tasks)
    ends = [(task_id, *end) for task_id in tasks for end in ((1, "interrupted"), (2, "completed"))]
    assert ground.plane.sql(ENDS, tasks) == ends
    return ground.plane.sql("SELECT * FROM fibflow.task_final WHERE id = ANY(%s) ORDER BY id", tasks)


def recorded(ground: Ground, victim: Victim) -> int:
    """The writes of the victim's that the audit says were refused."""
    ((count,),) = ground.plane.sql("SELECT sum(count)::int FROM fibflow.stale_write WHERE worker_id = %s", victim.worker_id)
    return int(count)


def scraped(ground: Ground, address: str) -> str:
    """The metrics of a pod that the API server does not know any more."""
    ask = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
    return ground.cluster.control.machine.run(sys.executable, "-c", ask, f"http://{address}:8080/metrics")


def test_a_pod_that_was_deleted_while_its_node_was_cut_off_never_registers_again(ground):
    victim, begin = ground.victim(), time.monotonic()
    node = ground.cluster.node_of(victim.pod, ground.plane.namespace)
    container = ground.cluster.container_of(victim.pod, ground.plane.namespace)
    node.cut(Direction.API)
    try:
        ground.delete(victim.pod, "--grace-period=0", "--force")
        again = ground.again(victim)
        gone = ground.shown(victim, begin, lambda each: each.type == "DELETED")
        assert again - gone.at <= 1.0
        # What ran there has heard that it lost its lease, registers in vain and ends; its kubelet starts it anew.
        until(lambda: _containers(node, victim.pod) - {container}, 60, "its kubelet starts the container again")
        ground.refused(victim)
        registered = "SELECT count(*) FROM fibflow.worker WHERE pod_uid = %s AND id > %s"
        assert ground.plane.sql(registered, victim.uid, victim.worker_id) == [(0,)]
        assert ground.plane.sql("SELECT attempt FROM fibflow.task WHERE id = %s", victim.task_id) == [(2,)]
    finally:
        node.heal(Direction.API)
        ground.back(node)


def _containers(node: Node, pod: str) -> set[str]:
    """The workers' containers of a pod that its node's containerd knows."""
    labels = f'labels."io.kubernetes.pod.name"=={pod},labels."io.kubernetes.container.name"==worker'
    return set(node.ctr("containers", "list", "--quiet", labels).split())


@ONLY_IN_FULL
@pytest.mark.parametrize("direction", [Direction.DATABASE, Direction.CABLE], ids=["database", "cable"])
def test_what_a_cut_off_worker_ran_is_completed_once(ground, direction):
    task_id = ground.client.enqueue("work", {"seconds": 40})
    moment_of(ground.database, True, AGAIN, 1, task_id)
    ((worker_id, pod, _),) = ground.plane.sql(OWNER, task_id)
    node, cut = ground.cluster.node_of(pod, ground.plane.namespace), time.monotonic()
    node.cut(direction)
    try:
        assert moment_of(ground.database, True, AGAIN, 2, task_id, seconds=45) - cut <= 32.0, "its lease, and two seconds"
    finally:
        node.heal(direction)
    final = "SELECT status FROM fibflow.task_final WHERE id = %s"
    moment_of(ground.database, "completed", final, task_id, seconds=90)
    ended = ground.plane.sql("SELECT attempt, outcome FROM fibflow.attempt WHERE task_id = %s ORDER BY 1", task_id)
    assert ended == [(1, "interrupted"), (2, "completed")]
    assert ground.plane.sql(STATUS, worker_id) != [("active",)]
