"""Workers: bring the Deployment of a resource to what it asks for, step by step, until there is no step left.

What a step is, and when which is due, is decided in `deployment`. A TaskType that has no workers of its own any more loses
its Deployment; what goes with a resource is the cluster's business. What ails the workers is told by `staffing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fibflow.errors import one_line
from fibflow.logs import logger
from fibflow.store.synced import Name
from fibflow_operator import deployment
from fibflow_operator.conditions import Reason
from fibflow_operator.deployment import Fleet, Step, next_step
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.names import deployment_of
from fibflow_operator.plan import Refusal
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.world import Key, Resource
from fibflow_operator.yard import Deployment

log = logger(__name__)
MOST_STEPS = 5
CONFLICT = 409
TRANSIENT = (401, 408, 409, 429)


class Hands(Protocol):
    """Where Deployments are changed."""

    async def create(self, place: Name, body: Mapping[str, Any]) -> Deployment: ...

    async def apply(self, place: Name, body: Mapping[str, Any]) -> Deployment: ...

    async def apply_budget(self, place: Name, body: Mapping[str, Any]) -> None: ...

    async def scale(self, place: Name, replicas: int) -> None: ...

    async def remove(self, place: Name, uid: str) -> None: ...

    async def cost(self, pod: Name, cost: str | None) -> None: ...


async def reconcile(scene: Scene, hands: Hands, key: Key) -> bool:
    """Bring the workers of one resource up to date; False if that is to be tried again later. Raises ApiFailure."""
    resource, standing = scene.world.get(key), scene.standings.get(key)
    scene.refused.pop(key, None)
    if resource is None or standing is None or standing.refusal is not None or not scene.yard.knows(key.namespace):
        return True  # the last good Deployment stays as it is
    fleet = deployment.fleet_of(resource)
    if fleet is not None and not fleet.spec.get("image"):
        scene.refused[key] = Refusal(Reason.NO_IMAGE, f"{fleet.path}.image: is missing; a cluster starts workers from an image")
        return True
    try:
        return await (_remove(scene, hands, resource) if fleet is None else _steps(scene, hands, fleet))
    except ApiRefused as refused:
        if refused.status in TRANSIENT or refused.status >= 500:
            raise
        scene.refused[key] = Refusal(Reason.DEPLOYMENT_REFUSED, f"the API server refused it: {one_line(refused)[:500]}")
        return False


async def _remove(scene: Scene, hands: Hands, resource: Resource) -> bool:
    """Remove the Deployment of a resource that has no workers any more; what runs there drains."""
    place = deployment_of(resource.key)
    seen = scene.yard.deployments.get(place)
    if seen is not None and seen.owner == resource.uid:
        log.info("deployment_changed", step="remove", namespace=place.namespace, name=place.name)
        await hands.remove(place, seen.uid)
        scene.applied.pop(resource.key, None)
        scene.scaled.pop(resource.key, None)
    return True


async def _steps(scene: Scene, hands: Hands, fleet: Fleet) -> bool:
    for _ in range(MOST_STEPS):
        seen = scene.yard.deployments.get(fleet.deployment)
        step = next_step(fleet, seen, fleet.replicas, scene.applied.get(fleet.key))
        if step is None:
            return True
        if step is Step.REFUSE or not await _take(scene, hands, fleet, step):
            scene.refused[fleet.key] = Refusal(Reason.NAME_TAKEN, TAKEN.format(fleet.deployment.name))
            return False
        if step is Step.SCALE:
            return True  # what came of it is told by the watch
    return False


TAKEN = "the Deployment {} belongs to somebody else and is left alone; rename it, or this resource"


async def _take(scene: Scene, hands: Hands, fleet: Fleet, step: Step) -> bool:
    """Take a step; False if the place is taken."""
    place = fleet.deployment
    log.info("deployment_changed", step=step.value, namespace=place.namespace, name=place.name)
    match step:
        case Step.CREATE:
            try:
                scene.yard.see_deployment(await hands.create(place, deployment.seed(fleet)))
            except ApiRefused as refused:
                if refused.status == CONFLICT:
                    return False
                raise
        case Step.APPLY:
            await hands.apply_budget(place, deployment.budget(fleet))
            changed = await hands.apply(place, deployment.applied_form(fleet))
            scene.applied[fleet.key] = (changed.digest or "", changed.generation)
            scene.yard.see_deployment(changed)
        case Step.SCALE:
            await hands.scale(place, fleet.replicas or 0)
    return True
