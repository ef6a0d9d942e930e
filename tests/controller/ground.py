"""Deployments in memory, as far as the operator's steps towards one need them: what is created, applied and scaled.

What becomes of them is Kubernetes' business and is tried on a real one (tests/e2e).
"""

import copy
from collections.abc import Mapping
from typing import Any

from fibflow.store.synced import Name
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.workload_cache import Budget, Deployment, budget, deployment


class Ground:
    """The Deployments of a cluster, and what was done to them."""

    def __init__(self) -> None:
        self.deployments: dict[Name, dict[str, Any]] = {}
        self.budgets: dict[Name, dict[str, Any]] = {}
        self.pods: dict[Name, str] = {}
        """The uids of those that are there."""
        self.done: list[str] = []

    async def find(self, place: Name) -> Deployment | None:
        self.done.append("find")
        return deployment(self.deployments[place]) if place in self.deployments else None

    async def find_budget(self, place: Name) -> Budget | None:
        self.done.append("find budget")
        return budget(self.budgets[place]) if place in self.budgets else None

    async def create(self, place: Name, body: Mapping[str, Any]) -> Deployment:
        self.done.append("create")
        return deployment(self._make(self.deployments, place, body))

    async def apply(self, place: Name, body: Mapping[str, Any]) -> Deployment:
        self.done.append("apply")
        self._check(self.deployments, place, body)
        spec = {**copy.deepcopy(body["spec"]), "replicas": self.deployments[place]["spec"].get("replicas", 1)}
        return deployment(self._put(self.deployments, place, {**body, "spec": spec}))

    async def create_budget(self, place: Name, body: Mapping[str, Any]) -> Budget:
        self.done.append("create budget")
        return budget(self._make(self.budgets, place, body))

    async def apply_budget(self, place: Name, body: Mapping[str, Any]) -> Budget:
        self.done.append("apply budget")
        self._check(self.budgets, place, body)
        return budget(self._put(self.budgets, place, body))

    async def scale(self, seen: Deployment, replicas: int) -> bool:
        now = self.deployments.get(seen.name, {"metadata": {}})
        as_now = (now["metadata"].get("uid"), now["metadata"].get("resourceVersion"))
        if as_now != (seen.uid, str(seen.version)):
            self.done.append("conflict")
            return False
        self.done.append(f"scale {replicas}")
        self._put(self.deployments, seen.name, {"metadata": {}, "spec": {**now["spec"], "replicas": replicas}})
        return True

    async def pod_uid(self, pod: Name) -> str | None:
        return self.pods.get(pod)

    async def remove(self, seen: Deployment) -> None:
        self.done.append("remove")
        assert self.deployments.pop(seen.name)["metadata"]["uid"] == seen.uid

    async def remove_budget(self, seen: Budget) -> None:
        self.done.append("remove budget")
        assert self.budgets.pop(seen.name)["metadata"]["uid"] == seen.uid

    async def cost(self, pod: Name, cost: str | None) -> None:
        self.done.append(f"cost {pod.name} {cost}")

    def _make(self, places: dict[Name, dict[str, Any]], place: Name, body: Mapping[str, Any]) -> dict[str, Any]:
        if place in places:
            raise ApiRefused(409, "it exists")
        metadata = {"uid": f"uid-{place.name}", "resourceVersion": "1", "generation": 1, **body["metadata"]}
        places[place] = {**copy.deepcopy(dict(body)), "metadata": metadata}
        return places[place]

    def _check(self, places: dict[Name, dict[str, Any]], place: Name, body: Mapping[str, Any]) -> None:
        """What is applied to an object by its uid is refused where that is not there; without one, it would be made."""
        uid = places[place]["metadata"]["uid"] if place in places else None
        if body["metadata"].get("uid", uid) != uid:
            raise ApiRefused(409, "uid mismatch")
        if uid is None:
            self._make(places, place, body)

    def _put(self, places: dict[Name, dict[str, Any]], place: Name, body: Mapping[str, Any]) -> dict[str, Any]:
        before = places[place]["metadata"]
        more = {"resourceVersion": str(int(before["resourceVersion"]) + 1), "generation": before["generation"] + 1}
        places[place] = {**places[place], **body, "metadata": {**before, **body["metadata"], **more}}
        return places[place]
