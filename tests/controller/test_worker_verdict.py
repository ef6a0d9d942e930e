"""What a WorkerPool's status says of its workers: the first cause is told, and Ready means that they are there."""

import pytest

from controller.test_deployment import fleet
from fibflow.store.pools import PoolFigures
from fibflow_operator import deployment, worker_verdict
from fibflow_operator.pods import pod
from fibflow_operator.reasons import Reason, Refusal
from fibflow_operator.workload_cache import deployment as read

FINE = PoolFigures()


def seen(wanted=2, ready=2, **status):
    body = deployment.applied_form(fleet())
    metadata = {**body["metadata"], "uid": "d1", "resourceVersion": "1", "generation": 1}
    counts = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, **status}
    return read({**body, "metadata": metadata, "spec": {**body["spec"], "replicas": wanted}, "status": counts})


def ailing(phase="Pending", **more):
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    metadata = {"name": "p", "namespace": "shop", "uid": "u", "resourceVersion": "1", **more}
    return pod({"metadata": metadata, "status": {"phase": phase, "containerStatuses": [{"name": "worker", "state": waiting}]}})


@pytest.mark.parametrize(
    ("refused", "asked", "found", "pods", "figures", "reason"),
    [
        (None, 2, seen(), [], FINE, Reason.IN_FORCE),
        (None, 0, seen(0, 0), [], FINE, Reason.IN_FORCE),
        (None, 2, seen(0, 0), [], FINE, Reason.WORKERS_STARTING),  # it was made and is not scaled yet
        (None, None, seen(0, 0), [], FINE, Reason.IN_FORCE),  # the backlog asks for none
        (None, None, seen(5, 2), [], FINE, Reason.IN_FORCE),  # it grows
        (None, None, seen(5, 2, observedGeneration=0), [], FINE, Reason.IN_FORCE),  # it was just scaled
        (None, None, seen(5, 2, updatedReplicas=3, replicas=5), [], FINE, Reason.WORKERS_STARTING),  # older ones are replaced
        (None, None, seen(5, 2), [ailing()], FINE, Reason.IMAGE_UNAVAILABLE),
        (None, 2, seen(2, 1), [], FINE, Reason.WORKERS_STARTING),
        (None, 2, seen(updatedReplicas=1), [], FINE, Reason.WORKERS_STARTING),
        (None, 2, seen(observedGeneration=0), [], FINE, Reason.WORKERS_STARTING),
        (None, 2, None, [], FINE, Reason.WORKERS_STARTING),
        (None, 2, seen(), [], PoolFigures(0, ("nonsense",)), Reason.HANDLER_MISSING),
        (None, 2, seen(2, 1), [ailing()], PoolFigures(0, ("nonsense",)), Reason.IMAGE_UNAVAILABLE),
        (Refusal(Reason.NAME_TAKEN, "taken"), 2, seen(2, 1), [ailing()], FINE, Reason.NAME_TAKEN),
    ],
)
def test_the_first_cause_is_told(refused, asked, found, pods, figures, reason):
    said = worker_verdict.ready(refused, asked, found, pods, figures)
    assert said.reason is reason and said.status is (reason is Reason.IN_FORCE)


@pytest.mark.parametrize("passing", [ailing("Failed"), ailing(deletionTimestamp="2026-01-01T00:00:00Z")])
def test_a_pod_that_is_over_or_leaves_is_no_trouble(passing):
    assert worker_verdict.ready(None, 2, seen(), [passing], FINE).reason is Reason.IN_FORCE


def test_a_pool_is_not_ready_until_what_was_applied_was_seen():
    def said(applied):
        return worker_verdict.ready(None, None, seen(5, 2), [], FINE, applied).reason

    assert (said(1), said(2)) == (Reason.IN_FORCE, Reason.WORKERS_STARTING)


@pytest.mark.parametrize(
    ("asked", "found", "growing"), [(None, seen(5, 2), True), (None, seen(2, 2), False), (2, seen(2, 1), True)]
)
def test_a_pool_that_grows_says_so(asked, found, growing):
    said = worker_verdict.progressing(worker_verdict.ready(None, asked, found, [], FINE), found)
    assert (said.status, said.reason) == (growing, Reason.WORKERS_STARTING if growing else Reason.ROLLED_OUT)
    assert not growing or said.message.startswith(f"{found.ready} of {found.wanted} workers are ready")


def test_a_pool_that_cannot_go_on_says_so():
    said = worker_verdict.progressing(worker_verdict.ready(None, None, seen(5, 2), [ailing()], FINE), seen(5, 2))
    assert (said.status, said.reason) == (False, Reason.STUCK)


@pytest.mark.parametrize(("policy", "fixed"), [("Fixed", 3), ("External", None), ("Backlog", None)])
def test_a_number_is_fixed_where_a_person_says_it(policy, fixed):
    assert fleet(replicas=3, scaling={"policy": policy}).fixed == fixed
    assert fleet(replicas=3).fixed == 3
