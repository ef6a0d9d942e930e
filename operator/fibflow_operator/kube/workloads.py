"""Deployments, their scale and their disruption budgets at the API server, and where they and their pods are followed.

What a Deployment should be is decided in `deployment`, when it is changed in reconcile/workers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fibflow.store.synced import Name
from fibflow_operator.kube.api import APPLY, Api, ApiRefused
from fibflow_operator.yard import Deployment, deployment

NOT_FOUND, CONFLICT = 404, 409
MANAGER = "fibflow-operator"
CREATOR = "fibflow-operator-create"
"""Who said replicas when it was made: not who applies, or an apply without them would take them back."""


def deployments(namespace: str | None) -> str:
    return f"/apis/apps/v1{_inside(namespace)}/deployments"


def pods(namespace: str | None) -> str:
    return f"/api/v1{_inside(namespace)}/pods"


def _inside(namespace: str | None) -> str:
    return f"/namespaces/{namespace}" if namespace else ""


def create(api: Api, place: Name, body: Mapping[str, Any]) -> Deployment:
    """Make a Deployment. Raises ApiFailure."""
    return deployment(api.call("POST", deployments(place.namespace), {"fieldManager": CREATOR}, body))


def apply(api: Api, place: Name, body: Mapping[str, Any]) -> Deployment:
    """Say what a Deployment is to be. Raises ApiFailure."""
    return deployment(_apply(api, f"{deployments(place.namespace)}/{place.name}", body))


def apply_budget(api: Api, place: Name, body: Mapping[str, Any]) -> None:
    """Say what a PodDisruptionBudget is to be; it is made if there is none. Raises ApiFailure."""
    path = f"/apis/policy/v1{_inside(place.namespace)}/poddisruptionbudgets"
    try:
        api.call("POST", path, {"fieldManager": MANAGER}, body)
    except ApiRefused as refused:
        if refused.status != CONFLICT:
            raise
        _apply(api, f"{path}/{place.name}", body)


def _apply(api: Api, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return api.call("PATCH", path, {"fieldManager": MANAGER, "force": "true"}, body, patch=APPLY)


def remove(api: Api, place: Name, uid: str) -> None:
    """Delete this Deployment, its pods and its disruption budget; what is gone is none. Raises ApiFailure."""
    inside = _inside(place.namespace)
    _delete(api, f"/apis/policy/v1{inside}/poddisruptionbudgets/{place.name}", {})
    _delete(api, f"{deployments(place.namespace)}/{place.name}", {"preconditions": {"uid": uid}})


def _delete(api: Api, path: str, options: Mapping[str, Any]) -> None:
    try:
        api.call("DELETE", path, body={"propagationPolicy": "Background", **options})
    except ApiRefused as refused:
        if refused.status not in (NOT_FOUND, CONFLICT):  # another has its name by now
            raise


def cost(api: Api, pod: Name, cost: str | None) -> None:
    """Say how dear a pod is to its ReplicaSet, None for as dear as any; one that is gone is none. Raises ApiFailure."""
    body = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}}
    try:
        api.call("PATCH", f"{pods(pod.namespace)}/{pod.name}", body=body)
    except ApiRefused as refused:
        if refused.status != NOT_FOUND:
            raise


def scale(api: Api, place: Name, replicas: int) -> None:
    """Say how many pods a Deployment is to have. Raises ApiFailure."""
    path = f"{deployments(place.namespace)}/{place.name}/scale"
    api.call("PATCH", path, {"fieldManager": MANAGER}, {"spec": {"replicas": replicas}})
