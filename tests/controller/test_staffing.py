"""What a WorkerPool's status says of its workers: the first cause is told, and Ready means that they are there."""

import pytest

from controller.test_deployment import fleet
from fibflow.store.pools import PoolFigures
from fibflow_operator import deployment, staffing
from fibflow_operator.conditions import Reason
from fibflow_operator.plan import Refusal
from fibflow_operator.pods import pod
from fibflow_operator.yard import deployment as read

FINE = PoolFigures()


def seen(wanted=2, ready=2, **status):
    body = deployment.template(fleet())
    metadata = {**body["metadata"], "uid": "d1", "resourceVersion": "1", "generation": 1}
    counts = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, **status}
    return read({**body, "metadata": metadata, "spec": {**body["spec"], "replicas": wanted}, "status": counts})


def ailing():
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    metadata = {"name": "p", "namespace": "shop", "uid": "u", "resourceVersion": "1"}
    return pod({"metadata": metadata, "status": {"containerStatuses": [{"name": "worker", "state": waiting}]}})


@pytest.mark.parametrize(
    ("refused", "asked", "found", "pods", "figures", "reason"),
    [
        (None, 2, seen(), [], FINE, Reason.IN_FORCE),
        (None, 0, seen(0, 0), [], FINE, Reason.IN_FORCE),
        (None, 2, seen(0, 0), [], FINE, Reason.WORKERS_STARTING),  # it was made and is not scaled yet
        (None, None, seen(0, 0), [], FINE, Reason.IN_FORCE),  # the backlog asks for none
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
    said = staffing.ready(refused, asked, found, pods, figures)
    assert said.reason is reason and said.status is (reason is Reason.IN_FORCE)
