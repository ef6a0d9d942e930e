"""Deployments, their scale and their disruption budgets at the API server, and where they and their pods are followed.

What a Deployment should be is decided in `deployment`, when it is changed in reconcile/workers.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fibflow.store.synced import Name
from fibflow_operator.kube.api import APPLY, Api, ApiRefused
from fibflow_operator.kube.lists import pages
from fibflow_operator.workload_cache import Budget, Deployment, budget, deployment

NOT_FOUND, CONFLICT = 404, 409
PART = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
"""A name that an object may have."""
MANAGER = "fibflow-operator"
CREATOR = "fibflow-operator-create"
"""Who said replicas when it was made: not who applies, or an apply without them would take them back."""


def deployments(namespace: str | None) -> str:
    return f"/apis/apps/v1{_inside(namespace)}/deployments"


def budgets(namespace: str | None) -> str:
    return f"/apis/policy/v1{_inside(namespace)}/poddisruptionbudgets"


def pods(namespace: str | None) -> str:
    return f"/api/v1{_inside(namespace)}/pods"


def _inside(namespace: str | None) -> str:
    return f"/namespaces/{namespace}" if namespace else ""


def find(api: Api, place: Name) -> Deployment | None:
    """The Deployment of that name, whatever its labels; None if there is none. Raises ApiFailure."""
    return next(map(deployment, _named(api, deployments(place.namespace), place.name)), None)


def find_budget(api: Api, place: Name) -> Budget | None:
    """The PodDisruptionBudget of that name, likewise. Raises ApiFailure."""
    return next(map(budget, _named(api, budgets(place.namespace), place.name)), None)


def _named(api: Api, path: str, name: str) -> list[Mapping[str, Any]]:
    """By a list: no other right is needed than the one to follow them."""
    return [each for page in pages(api, path, {"fieldSelector": f"metadata.name={name}"}) for each in page.items]


def create(api: Api, place: Name, body: Mapping[str, Any]) -> Deployment:
    """Make a Deployment. Raises ApiFailure."""
    return deployment(api.call("POST", deployments(place.namespace), {"fieldManager": CREATOR}, body))


def apply(api: Api, place: Name, body: Mapping[str, Any]) -> Deployment:
    """Say what a Deployment is to be. Raises ApiFailure."""
    return deployment(_apply(api, f"{deployments(place.namespace)}/{place.name}", body))


def create_budget(api: Api, place: Name, body: Mapping[str, Any]) -> Budget:
    """Make a PodDisruptionBudget. Raises ApiFailure."""
    return budget(api.call("POST", budgets(place.namespace), {"fieldManager": MANAGER}, body))


def apply_budget(api: Api, place: Name, body: Mapping[str, Any]) -> Budget:
    """Say what a PodDisruptionBudget is to be. Raises ApiFailure."""
    return budget(_apply(api, f"{budgets(place.namespace)}/{place.name}", body))


def _apply(api: Api, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return api.call("PATCH", path, {"fieldManager": MANAGER, "force": "true"}, body, patch=APPLY)


def remove(api: Api, seen: Deployment) -> None:
    """Delete this very Deployment, with its pods; one that is gone, or another by now, is none. Raises ApiFailure."""
    _delete(api, f"{deployments(seen.name.namespace)}/{seen.name.name}", seen.uid)


def remove_budget(api: Api, seen: Budget) -> None:
    """Delete this very PodDisruptionBudget, likewise. Raises ApiFailure."""
    _delete(api, f"{budgets(seen.name.namespace)}/{seen.name.name}", seen.uid)


def _delete(api: Api, path: str, uid: str) -> None:
    try:
        api.call("DELETE", path, body={"propagationPolicy": "Background", "preconditions": {"uid": uid}})
    except ApiRefused as refused:
        if refused.status not in (NOT_FOUND, CONFLICT):
            raise


def pod_uid(api: Api, pod: Name) -> str | None:
    """The uid of the pod that has this name now, whatever its labels; None if there is none. Raises ApiFailure."""
    if not all(map(PART.fullmatch, pod)):  # a worker may say anything of itself
        return None
    try:
        return str(api.call("GET", f"{pods(pod.namespace)}/{pod.name}")["metadata"]["uid"])
    except ApiRefused as refused:
        if refused.status == NOT_FOUND:
            return None
        raise


def cost(api: Api, pod: Name, cost: str | None) -> None:
    """Say how dear a pod is to its ReplicaSet, None for as dear as any; one that is gone is none. Raises ApiFailure."""
    if not all(map(PART.fullmatch, pod)):
        return
    body = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}}
    try:
        api.call("PATCH", f"{pods(pod.namespace)}/{pod.name}", body=body)
    except ApiRefused as refused:
        if refused.status != NOT_FOUND:
            raise


def scale(api: Api, seen: Deployment, replicas: int) -> bool:
    """Say how many pods a Deployment is to have; False if it is no more as it was seen, and stays as it is.

    Raises ApiFailure.
    """
    path = f"{deployments(seen.name.namespace)}/{seen.name.name}/scale"
    as_seen = {"uid": seen.uid, "resourceVersion": str(seen.version)}
    try:
        api.call("PATCH", path, {"fieldManager": MANAGER}, {"metadata": as_seen, "spec": {"replicas": replicas}})
    except ApiRefused as refused:
        if refused.status not in (NOT_FOUND, CONFLICT):
            raise
        return False
    return True
