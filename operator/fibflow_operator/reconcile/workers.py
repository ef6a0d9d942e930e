"""Workers: bring the Deployment of a resource to what it asks for, step by step, until there is no step left.

What a step is, and when which is due, is decided in `steps`; how many pods there are is the business of `scaling`. A
TaskType that has no workers of its own any more loses its Deployment; what goes with a resource is the cluster's business.
What ails the workers is told by `worker_verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fibflow.errors import one_line
from fibflow.logs import logger
from fibflow.store.synced import Name
from fibflow_operator import deployment
from fibflow_operator.fleet import Fleet
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.names import deployment_of
from fibflow_operator.reasons import Reason, Refusal
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.steps import Step, next_step, taken
from fibflow_operator.workload_cache import Budget, Deployment
from fibflow_operator.world import Key, Resource

log = logger(__name__)
MOST_STEPS = 5
CONFLICT = 409
TRANSIENT = (401, 408, 409, 429)


class Workloads(Protocol):
    """Where Deployments are changed."""

    async def find(self, place: Name) -> Deployment | None: ...

    async def find_budget(self, place: Name) -> Budget | None: ...

    async def create(self, place: Name, body: Mapping[str, Any]) -> Deployment: ...

    async def apply(self, place: Name, body: Mapping[str, Any]) -> Deployment: ...

    async def create_budget(self, place: Name, body: Mapping[str, Any]) -> Budget: ...

    async def apply_budget(self, place: Name, body: Mapping[str, Any]) -> Budget: ...

    async def scale(self, seen: Deployment, replicas: int) -> bool: ...

    async def remove(self, seen: Deployment) -> None: ...

    async def remove_budget(self, seen: Budget) -> None: ...

    async def cost(self, pod: Name, cost: str | None) -> None: ...


async def reconcile(scene: Scene, workloads: Workloads, key: Key) -> bool:
    """Bring the workers of one resource up to date; False if that is to be tried again later. Raises ApiFailure.

    What it was refused stays told until all is as it should be: a retry under way is no success.
    """
    resource = scene.world.get(key)
    if resource is None:
        _forget(scene, key)
    if resource is None or not _in_force(scene, resource) or not scene.cache.knows(key.namespace):
        return True  # the last good Deployment stays as it is
    fleet = scene.fleet(resource)
    if resource.workers is not None and not fleet.spec.get("image"):
        scene.refused[key] = Refusal(Reason.NO_IMAGE, f"{fleet.path}.image: is missing; a cluster starts workers from an image")
        return True
    try:
        return await (_remove(scene, workloads, resource) if resource.workers is None else _steps(scene, workloads, fleet))
    except ApiRefused as refused:
        if refused.status in TRANSIENT or refused.status >= 500:
            raise
        scene.refused[key] = Refusal(Reason.DEPLOYMENT_REFUSED, f"the API server refused it: {one_line(refused)[:500]}")
        return False


def _in_force(scene: Scene, resource: Resource) -> bool:
    """Whether this very spec is stored: one that was not looked at yet may be refused. Who syncs it brings it here again."""
    standing = scene.standings.get(resource.key)
    return standing is not None and standing.in_force(resource.edition)


async def _remove(scene: Scene, workloads: Workloads, resource: Resource) -> bool:
    """Remove the Deployment of a resource that has no workers any more, and its budget; what runs there drains."""
    place = deployment_of(resource.key)
    seen, cover = scene.cache.deployments.get(place), scene.cache.budgets.get(place)
    if cover is not None and cover.owner == resource.uid:
        await workloads.remove_budget(cover)
    if seen is not None and seen.owner == resource.uid:
        log.info("deployment_changed", step="remove", namespace=place.namespace, name=place.name)
        await workloads.remove(seen)
    _forget(scene, resource.key)
    return True


def _forget(scene: Scene, key: Key) -> None:
    scene.refused.pop(key, None)
    scene.scaled.pop(key, None)
    scene.applied.pop(key, None)
    scene.covered.pop(key, None)


async def _steps(scene: Scene, workloads: Workloads, fleet: Fleet) -> bool:
    for _ in range(MOST_STEPS):
        step = _next(scene, fleet)
        if step is None:
            scene.refused.pop(fleet.key, None)
            return True
        if (anothers := await _take(scene, workloads, fleet, step)) is not None:
            scene.refused[fleet.key] = taken(fleet, anothers)
            return True  # the watch tells when that is another one; a comparison looks again
    return False


def _next(scene: Scene, fleet: Fleet) -> Step | None:
    seen, cover = scene.cache.deployments.get(fleet.deployment), scene.cache.budgets.get(fleet.deployment)
    return next_step(fleet, seen, cover, scene.applied.get(fleet.key), scene.covered.get(fleet.key))


async def _take(scene: Scene, workloads: Workloads, fleet: Fleet, step: Step) -> Deployment | Budget | None:
    """Take a step; what stands in its way and is another's."""
    place, cache = fleet.deployment, scene.cache
    if step in (Step.REFUSE, Step.REFUSE_BUDGET):
        return cache.deployments[place] if step is Step.REFUSE else cache.budgets[place]
    log.info("deployment_changed", step=step.value, namespace=place.namespace, name=place.name)
    try:
        await _act(scene, workloads, fleet, step)
    except ApiRefused as refused:
        if refused.status != CONFLICT or step not in (Step.CREATE, Step.CREATE_BUDGET):
            raise
        return await _in_the_way(scene, workloads, fleet, step)
    return None


async def _in_the_way(scene: Scene, workloads: Workloads, fleet: Fleet, step: Step) -> Deployment | Budget | None:
    """What has the name already and is not followed, for it lacks our label; None if it is ours all the same, and seen now."""
    found = await (workloads.find if step is Step.CREATE else workloads.find_budget)(fleet.deployment)
    if found is None or found.owner != fleet.uid:
        return found
    scene.cache.see(found)
    return None


async def _act(scene: Scene, workloads: Workloads, fleet: Fleet, step: Step) -> None:
    place, cache = fleet.deployment, scene.cache
    cover = deployment.applied_budget(fleet)
    match step:
        case Step.CREATE:
            cache.deployments.see(await workloads.create(place, deployment.seed(fleet)))
        case Step.CREATE_BUDGET:
            cache.budgets.see(await workloads.create_budget(place, cover))
        case Step.APPLY_BUDGET:
            covered = await workloads.apply_budget(place, _of(cache.budgets[place], cover))
            scene.covered[fleet.key] = (covered.digest or "", covered.generation)
            cache.budgets.see(covered)
        case Step.APPLY:
            changed = await workloads.apply(place, _of(cache.deployments[place], deployment.applied_form(fleet)))
            scene.applied[fleet.key] = (changed.digest or "", changed.generation)
            cache.deployments.see(changed)


def _of(seen: Deployment | Budget, body: dict[str, Any]) -> dict[str, Any]:
    """What is applied to this very object: one that is gone is not made by it, one that took its name is not touched."""
    return {**body, "metadata": {**body["metadata"], "uid": seen.uid}}
