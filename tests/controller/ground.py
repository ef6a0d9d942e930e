"""Deployments in memory, as far as the operator's steps towards one need them: what is created, applied and scaled.

What becomes of them is Kubernetes' business and is tried on a real one (tests/e2e).
"""

import copy
from collections.abc import Mapping
from typing import Any

from fibflow.store.synced import Name
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.yard import Deployment, deployment


class Ground:
    """The Deployments of a cluster, and what was done to them."""

    def __init__(self) -> None:
        self.deployments: dict[Name, dict[str, Any]] = {}
        self.budgets: dict[Name, Mapping[str, Any]] = {}
        self.done: list[str] = []

    async def create(self, place: Name, body: Mapping[str, Any]) -> Deployment:
        self.done.append("create")
        if place in self.deployments:
            raise ApiRefused(409, "it exists")
        metadata = {"uid": f"uid-{place.name}", "resourceVersion": "1", "generation": 1, **body["metadata"]}
        self.deployments[place] = {**copy.deepcopy(dict(body)), "metadata": metadata}
        return deployment(self.deployments[place])

    async def apply(self, place: Name, body: Mapping[str, Any]) -> Deployment:
        self.done.append("apply")
        now = self.deployments[place]
        spec = {**copy.deepcopy(body["spec"]), "replicas": now["spec"]["replicas"]}
        self._put(place, {**now, "metadata": {**now["metadata"], **body["metadata"]}, "spec": spec})
        return deployment(self.deployments[place])

    async def apply_budget(self, place: Name, body: Mapping[str, Any]) -> None:
        self.budgets[place] = body

    async def scale(self, place: Name, replicas: int) -> None:
        self.done.append(f"scale {replicas}")
        now = self.deployments[place]
        self._put(place, {**now, "spec": {**now["spec"], "replicas": replicas}})

    async def remove(self, place: Name, uid: str) -> None:
        self.done.append("remove")
        assert self.deployments.pop(place)["metadata"]["uid"] == uid

    async def cost(self, pod: Name, cost: str | None) -> None:
        self.done.append(f"cost {pod.name} {cost}")

    def _put(self, place: Name, raw: dict[str, Any]) -> None:
        metadata = raw["metadata"]
        more = {"resourceVersion": str(int(metadata["resourceVersion"]) + 1), "generation": metadata["generation"] + 1}
        self.deployments[place] = {**raw, "metadata": {**metadata, **more}}
