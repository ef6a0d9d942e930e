"""Pods that die in every way: their tasks run elsewhere within a second of when it shows, and nothing else is touched."""

import json
import time

import pytest

from cluster import until
from cluster.network import Direction
from e2e.figures import record
from e2e.fleets import pods_of
from e2e.grounds import AGAIN, LONG, OWNER, STATUS, SUCCESSOR, Ground, Victim
from e2e.planes import FULL, ONLY_IN_FULL, cron_task
from e2e.sightings import moment_of

RUNS = 10 if FULL else 3


# ── R1: a container ends and its pod stays ────────────────────────────────────────────────────────────────────────


def killed(ground: Ground) -> Victim:
    victim = ground.victim()
    ground.kill(victim)
    return victim


def out_of_memory(ground: Ground) -> Victim:
    """The worker's own process takes more than its container may have, at the task's first attempt."""
    return ground.victim({**LONG, "mebibytes_at_first": 300})


@pytest.mark.parametrize("act", [killed, out_of_memory], ids=["killed", "out-of-memory"])
def test_r1_what_a_container_ran_runs_again_at_once_and_its_successor_is_never_hit(ground, act):
    delays = []
    for _ in range(RUNS * 2 if FULL else RUNS):
        begin = time.monotonic()
        victim = act(ground)
        again = ground.again(victim)
        shown = ground.shown(victim, begin, lambda each: each.ended).at
        up = moment_of(ground.database, True, SUCCESSOR, victim.uid, victim.worker_id)
        ground.tell(victim, begin)
        delays.append(max(again - min(shown, up), 0.0))
        ground.refused(victim)
        successor = ground.plane.sql("SELECT max(id) FROM fibflow.worker WHERE pod_uid = %s", victim.uid)[0][0]
        ground.shown(victim, shown, lambda each: each.pod["status"]["containerStatuses"][0]["restartCount"] == 1)
        time_for_a_late_reap(ground)
        assert ground.plane.sql(STATUS, successor) == [("active",)]
        ground.clear(victim)
    assert record(f"R1 {act.__name__}", "a container ends: its tasks run again, after it shows", delays, 1.0), delays


def time_for_a_late_reap(ground: Ground) -> None:
    """Whatever the operator does about an event it has done once it has attended a later one: that of another pod."""
    other = pods_of(ground.plane)[0]["metadata"]["name"]
    begin = time.monotonic()
    ground.cluster.kubectl("annotate", "pod", other, "-n", ground.plane.namespace, "--overwrite", f"example.org/at={begin}")
    ground.seen.wait(lambda each: each.name == other, begin)


def test_r1_a_handler_process_that_is_out_of_memory_settles_its_attempt_alone(ground):
    victim = ground.victim()
    begin = time.monotonic()
    task_id = ground.client.enqueue("apart", {"mebibytes": 400}, max_attempts=1)
    statement = "SELECT status FROM fibflow.task_final WHERE id = %s"
    settled = moment_of(ground.database, "permanently_failed", statement, task_id, seconds=20)
    what = "a handler's process is out of memory: settled, after it was enqueued"
    assert record("R1 handler", what, [settled - begin], 5.0), settled - begin
    assert "process" in (ground.client.get(task_id).error or "")
    assert ground.seen.first(lambda each: each.ended, begin) is None
    assert ground.plane.sql("SELECT attempt FROM fibflow.task WHERE id = %s", victim.task_id) == [(1,)]


# ── R2: a pod goes ────────────────────────────────────────────────────────────────────────────────────────────────


def deleted(ground: Ground, victim: Victim) -> None:
    ground.delete(victim.pod, "--grace-period=0", "--force")


def outlived(ground: Ground, victim: Victim) -> None:
    ground.delete(victim.pod, "--grace-period=1")


def evicted(ground: Ground, victim: Victim) -> None:
    name = {"name": victim.pod, "namespace": ground.plane.namespace}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": name, "deleteOptions": {"gracePeriodSeconds": 1}}
    until(lambda: _accepted(ground, victim.pod, json.dumps(body)), 30, "the disruption budget has seen that all are ready")


def _accepted(ground: Ground, pod: str, eviction: str) -> bool:
    path = f"/api/v1/namespaces/{ground.plane.namespace}/pods/{pod}/eviction"
    try:
        return bool(ground.cluster.kubectl("create", "--raw", path, "-f", "-", text=eviction))
    except RuntimeError as refused:
        if "disruption budget" in str(refused):
            return False
        raise


def failed(ground: Ground, victim: Victim) -> None:
    status = '{"status": {"phase": "Failed"}}'
    arguments = ("--subresource=status", "--type=merge", "--patch", status)
    ground.cluster.kubectl("patch", "pod", victim.pod, "-n", ground.plane.namespace, *arguments)


ACTS = [deleted, evicted, failed, pytest.param(outlived, marks=ONLY_IN_FULL)]


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_r2_what_a_pod_ran_that_is_gone_runs_elsewhere_and_the_pod_never_comes_back(ground, act):
    delays = []
    for _ in range(RUNS):
        victim, begin = ground.victim(), time.monotonic()
        act(ground, victim)
        again = ground.again(victim)
        gone = ground.shown(victim, begin, lambda each: each.type == "DELETED" or each.phase in ("Failed", "Succeeded"))
        ground.tell(victim, begin)
        delays.append(max(again - gone.at, 0.0))
        ground.refused(victim)
        assert ground.plane.sql("SELECT count(*) FROM fibflow.fenced_pod WHERE pod_uid = %s", victim.uid) == [(1,)]
        assert ground.plane.sql(
            "SELECT count(*) FROM fibflow.worker WHERE pod_uid = %s AND id > %s", victim.uid, victim.worker_id
        ) == [(0,)]
        ground.clear(victim)
    assert record(f"R2 {act.__name__}", "a pod goes: its tasks run elsewhere, after it shows", delays, 1.0), delays


def test_what_a_leaving_pod_runs_finishes(ground):
    task_id = ground.client.enqueue("work", {"seconds": 5})
    moment_of(ground.database, True, AGAIN, 1, task_id)
    (row,) = ground.plane.sql(OWNER, task_id)
    ground.delete(row[1])
    ground.seen.wait(lambda each: each.uid == row[2] and each.type == "DELETED")
    final = ground.plane.sql("SELECT status, attempt FROM fibflow.task_final WHERE id = %s", task_id)
    assert final == [("completed", 1)]


# ── R3: a node falls silent ───────────────────────────────────────────────────────────────────────────────────────


def test_r3_what_a_dead_node_ran_runs_elsewhere_as_soon_as_it_shows(ground):
    delays, silences = [], []
    for _ in range(RUNS if FULL else 1):
        victim, begin = ground.victim(), time.monotonic()
        node = ground.cluster.node_of(victim.pod, ground.plane.namespace)
        node.kill()
        again = ground.again(victim)
        shown = ground.shown(victim, begin, lambda each: each.silent)
        ground.tell(victim, begin)
        delays.append(max(again - shown.at, 0.0))
        silences.append(again - begin)
        ground.refused(victim)
        node.start()
        ground.back(node)
        ground.clear(victim)
    met = [
        record("R3 shown", "a node dies: its tasks run elsewhere, after NotReady shows", delays, 1.0, worst=1.0),
        record("R3 silent", "a node dies: its tasks run elsewhere, after it died", silences, 32.0, worst=32.0),
    ]
    assert all(met), (delays, silences)


@ONLY_IN_FULL
def test_r3_a_node_that_only_the_api_has_lost_is_left_alone(ground):
    victim, begin = ground.victim(), time.monotonic()
    node = ground.cluster.node_of(victim.pod, ground.plane.namespace)
    node.cut(Direction.API)
    shown = ground.shown(victim, begin, lambda each: each.silent)
    beats = "SELECT renewed_at FROM fibflow.worker WHERE id = %s"
    for _ in range(2):
        ((last,),) = ground.plane.sql(beats, victim.worker_id)
        moment_of(ground.database, True, "SELECT renewed_at > %s FROM fibflow.worker WHERE id = %s", last, victim.worker_id)
    node.heal(Direction.API)
    ground.back(node)
    assert ground.plane.sql("SELECT attempt, worker_id FROM fibflow.task WHERE id = %s", victim.task_id) == [
        (1, victim.worker_id)
    ]
    assert time.monotonic() - shown.at > 5


# ── without an operator ───────────────────────────────────────────────────────────────────────────────────────────


def test_without_an_operator_tasks_recover_and_ticks_are_decided(ground):
    ground.plane.apply(cron_task("ticking", "work", schedule="* * * * * *", payload={"seconds": 0}, concurrencyPolicy="Allow"))
    ground.plane.wait_condition("CronTask", "ticking", status="True")
    restarted, deleted_ = ground.victim(), ground.victim()
    while deleted_.uid == restarted.uid:
        deleted_ = ground.victim()
    ground.plane._started[0].end()
    ticks, ended = "SELECT count(*) FROM fibflow.cron_tick WHERE decision = 'run'", time.monotonic()
    (before,) = ground.plane.sql(ticks)[0]
    ground.kill(restarted)
    ground.again(restarted, seconds=10)
    ground.refused(restarted)
    if FULL:  # by its lease, for nobody tells
        ground.delete(deleted_.pod, "--grace-period=0", "--force")
        ground.again(deleted_, seconds=40)
        ground.refused(deleted_)
    due = int(time.monotonic() - ended)
    until(lambda: ground.plane.sql(ticks)[0][0] - before >= due, 3, f"{due} instants are decided")
