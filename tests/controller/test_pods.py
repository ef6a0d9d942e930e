"""What a pod's state means for its worker, and what is told of what ails it."""

from typing import Any

import pytest

from fibflow_operator.pods import overdue, pod


def raw(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    head = {"name": "pool-1", "namespace": "shop", "uid": "u1", "resourceVersion": "7", "labels": {"fibflow.dev/pool": "pool"}}
    return {"metadata": {**head, **metadata}, "spec": {"terminationGracePeriodSeconds": 45}, "status": status or {}}


def container(**more: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "worker", "ready": False, "state": {}, "lastState": {}, **more}]}


def condition(type_: str, status: str, **more: str) -> dict[str, Any]:
    return {"type": type_, "status": status, **more}


def test_a_pod_is_known_by_its_uid_and_its_pool():
    found = pod(raw())
    assert (found.uid, found.pool, found.namespace, found.version) == ("u1", "pool", "shop", 7)


@pytest.mark.parametrize(("phase", "over"), [("Pending", False), ("Running", False), ("Failed", True), ("Succeeded", True)])
def test_a_pod_that_failed_or_succeeded_is_over(phase, over):
    assert pod(raw({"phase": phase})).over is over


def test_a_leaving_pod_is_believed_gone_five_seconds_after_its_grace():
    staying, leaving = pod(raw()), pod(raw(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=10))
    assert not staying.leaving and not overdue(staying, 1e9)
    assert leaving.leaving and not overdue(leaving, 15.0) and overdue(leaving, 15.1)
    assert pod(raw(deletionTimestamp="2026-01-01T00:00:00Z")).grace == 45


def test_the_last_end_of_a_container_counts_by_its_nodes_clock():
    ended = {"terminated": {"finishedAt": "1970-01-01T00:00:05Z", "exitCode": 137}}
    before = {"terminated": {"finishedAt": "1970-01-01T00:00:03Z", "exitCode": 1}}
    assert pod(raw(container())).ended_at is None
    assert pod(raw(container(lastState=before))).ended_at == 3_000_000
    assert pod(raw(container(state=ended, lastState=before))).ended_at == 5_000_000


def test_the_end_of_a_container_beside_the_worker_is_not_the_workers():
    beside = {"name": "proxy", "ready": False, "state": {"terminated": {"finishedAt": "1970-01-01T00:00:05Z", "exitCode": 1}}}
    both = container()["containerStatuses"] + [beside]
    assert pod(raw({"containerStatuses": both})).ended_at is None


@pytest.mark.parametrize(
    ("ready", "up", "silent"), [("True", True, False), ("False", True, True), ("False", False, False), ("True", False, False)]
)
def test_a_pod_is_silent_that_is_not_ready_while_its_containers_are(ready, up, silent):
    assert pod(raw({**container(ready=up), "conditions": [condition("Ready", ready)]})).silent is silent


def test_a_pod_without_containers_yet_is_not_silent():
    assert not pod(raw({"conditions": [condition("Ready", "False")]})).silent


def trouble(status):
    found = pod(raw(status)).trouble
    return None if found is None else (str(found.reason), found.message)


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        ("ErrImagePull", "ImageUnavailable"),
        ("ErrImageNeverPull", "ImageUnavailable"),
        ("CreateContainerConfigError", "ConfigurationMissing"),
        ("RunContainerError", "WorkerFailed"),
    ],
)
def test_what_a_container_waits_for_is_told_in_its_own_words(waiting, reason):
    assert trouble(container(state={"waiting": {"reason": waiting, "message": "own words"}})) == (reason, "own words")


def test_a_worker_that_ended_is_told_by_its_own_last_sentence():
    said = "{log line}\nfibflow worker: app: 'a:b' does not import\n"
    ended = {"terminated": {"exitCode": 2, "reason": "Error", "message": said}}
    crashing = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    found = trouble(container(state=crashing, lastState=ended))
    assert found == ("WorkerFailed", "app: 'a:b' does not import (Error, exit code 2)")


def test_one_that_said_nothing_is_told_by_how_it_ended():
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert trouble(container(lastState=killed)) == ("WorkerFailed", "OOMKilled, exit code 137")


def test_a_pod_that_no_node_takes_is_told_of():
    placed = condition("PodScheduled", "False", reason="Unschedulable", message="0/2 nodes are available")
    assert trouble({"conditions": [placed]}) == ("Unschedulable", "0/2 nodes are available")


def test_a_ready_pod_has_no_trouble_whatever_befell_it_before():
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert trouble({**container(ready=True, lastState=killed), "conditions": [condition("Ready", "True")]}) is None
    assert trouble(container(lastState={"terminated": {"exitCode": 0}})) is None
