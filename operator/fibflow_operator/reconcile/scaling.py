"""Scaling: how many pods a pool has is brought to what is decided, by `/scale` alone, and idle workers go first.

Down, in this order: idle workers are marked in the database, so that they take nothing new; their pods are annotated, so
that a ReplicaSet takes them first; then the scale is lowered by as many as are marked, and no more. A ReplicaSet takes pods
that are not ready before any other, whatever they cost, so nothing goes unless all are. If demand returns, marks are taken
back first. How many there should be is decided in fibflow.scaling.

Protocol. What is known of a Deployment may be old, and a scale that was decided on it might take busy pods. So each call
names the version that it was decided on; the API server refuses it if there is another, and nothing more is done until the
watch has brought that one. Who was let go by a call that was refused stays, and may claim again; where it is not known
whether a call was carried out, who was let go counts as gone for a while.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fibflow.errors import one_line
from fibflow.logs import logger
from fibflow.metrics import counter, gauge
from fibflow.scaling import Decision, History, Policy, Rule, Signal, decide
from fibflow.store.demand import Demand
from fibflow.store.draining import Marked, mark_idle, marked, unmark
from fibflow.store.synced import Name
from fibflow_operator.deployment import Fleet
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.yard import Deployment

log = logger(__name__)
DECISIONS = counter("fibflow_operator_scaling_decisions", "Decisions about a pool that differ from the last one.", ["because"])
WANTED = gauge("fibflow_operator_wanted_workers", "Workers that a pool should have.", ["task_namespace", "pool"])
WARM_UP = 10.0
"""Seconds before a cron tick at which a worker is to be there."""
UNKNOWN = 500
"""The statuses from which on a call that failed may have been carried out."""
FORGOTTEN = 30.0
"""Seconds after which a worker that was let go and is still there counts again."""
DEAREST = "-1000"
NOTHING = Demand()


class Scales(Protocol):
    """Where a Deployment is scaled, and a pod's deletion cost is written."""

    async def scale(self, seen: Deployment, replicas: int) -> bool: ...

    async def cost(self, pod: Name, cost: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Told:
    """The last decision about a pool, with what it was made from."""

    decision: Decision
    current: int
    demand: Demand | None

    def status(self) -> dict[str, Any]:
        """As the pool's status tells it."""
        loads = self.demand.loads if self.demand is not None else ()
        return {
            "replicas": self.decision.replicas,
            "wanted": self.decision.wanted,
            "reason": str(self.decision.because),
            "waiting": sum(load.waiting for load in loads),
            "running": sum(load.running for load in loads),
            "arrivalsPerMinute": round(sum(load.arrival_rate for load in loads) * 60),
        }


@dataclass(slots=True)
class Scaling:
    """What was decided so far, by pool."""

    histories: dict[Name, History] = field(default_factory=dict)
    let_go: dict[int, float] = field(default_factory=dict)
    """Workers for whom the scale was lowered, and when (monotonic seconds)."""
    acted: dict[Name, int] = field(default_factory=dict)
    """The version of each Deployment that was acted upon: what is known of it is old until there is another."""


def rule_of(fleet: Fleet) -> Rule:
    """How a fleet is scaled."""
    said: Mapping[str, Any] = fleet.spec.get("scaling", {})
    return Rule(
        policy=Policy(said.get("policy", Policy.FIXED)),
        replicas=int(fleet.spec.get("replicas", 1)),
        least=int(said.get("minReplicas", 0)),
        most=int(said.get("maxReplicas", 10)),
        slots=fleet.slots,
        target_wait=float(said.get("targetWaitSeconds", 10)),
        scale_down_delay=float(said.get("scaleDownDelaySeconds", 60)),
    )


async def scale(scene: Scene, scales: Scales, scaling: Scaling, fleet: Fleet, demands: Mapping[Name, Demand] | None) -> bool:
    """Bring one fleet to what is decided now; whether the decision is another. Raises ApiFailure, DatabaseError, LeadLost."""
    rule, seen = rule_of(fleet), scene.yard.deployments.get(fleet.deployment)
    if rule.policy is not Policy.BACKLOG or seen is None or seen.owner != fleet.uid or seen.digest is None:
        return False
    place = fleet.key.place
    demand = None if demands is None else demands.get(place, NOTHING)
    decision, history = decide(rule, _signal(seen, demand), scaling.histories.get(place, History()))
    scaling.histories[place] = history
    news = _tell(scene, fleet, Told(decision, seen.wanted, demand))
    if scaling.acted.get(seen.name) == seen.version:
        return news
    if decision.replicas > seen.wanted:
        await _give_back(scene, scales, fleet, await _going(scene, scaling, fleet))
        await _ask(scales, scaling, seen, decision.replicas)
    elif demand is not None:
        await _down(scene, scales, scaling, fleet, seen, seen.wanted - decision.replicas)
    return news


def _signal(seen: Deployment, demand: Demand | None) -> Signal:
    soon = demand is not None and demand.due_in is not None and demand.due_in < WARM_UP
    loads = demand.loads if demand is not None else None
    return Signal(time.monotonic(), seen.wanted, loads, due_soon=soon, rolling=seen.rolling)


def _tell(scene: Scene, fleet: Fleet, told: Told) -> bool:
    """Whether it is news."""
    before = scene.scaled.get(fleet.key)
    scene.scaled[fleet.key] = told.status()
    WANTED.labels(fleet.key.namespace, fleet.pool).set(told.decision.replicas)
    words = (told.decision.replicas, str(told.decision.because))
    if before is not None and (before["replicas"], before["reason"]) == words:
        return False
    DECISIONS.labels(str(told.decision.because)).inc()
    log.info("scaling_decided", pool=fleet.pool, namespace=fleet.key.namespace, current=told.current, **told.status())
    return True


async def _down(scene: Scene, scales: Scales, scaling: Scaling, fleet: Fleet, seen: Deployment, fewer: int) -> None:
    """Let so many go, of those that are idle; take back the marks of those that are to stay."""
    here = (fleet.key.namespace, fleet.pool)
    going = await _going(scene, scaling, fleet)
    if len(going) > fewer:
        await _give_back(scene, scales, fleet, going[: len(going) - fewer])
        return
    if fewer == 0 or not seen.rolled_out:
        return
    if len(going) < fewer and await scene.writer.write(mark_idle, *here, fewer - len(going)):
        going = await _going(scene, scaling, fleet)
    for each in going:
        await scales.cost(Name(here[0], each.pod), DEAREST)
    if going:
        await _let_go(scene, scales, scaling, fleet, seen, going)


async def _let_go(
    scene: Scene, scales: Scales, scaling: Scaling, fleet: Fleet, seen: Deployment, going: Sequence[Marked]
) -> None:
    log.info("workers_let_go", pool=fleet.pool, namespace=fleet.key.namespace, pods=[each.pod for each in going])
    scaling.let_go |= {each.worker_id: time.monotonic() for each in going}
    if not await _ask(scales, scaling, seen, seen.wanted - len(going)):
        for each in going:
            scaling.let_go.pop(each.worker_id, None)
        await _give_back(scene, scales, fleet, going)


async def _ask(scales: Scales, scaling: Scaling, seen: Deployment, replicas: int) -> bool:
    """Whether a Deployment is scaled, as it was seen. Raises ApiFailure if that is not known."""
    try:
        scaled = await scales.scale(seen, replicas)
    except ApiRefused as refused:
        if refused.status >= UNKNOWN:
            raise
        log.warning("scale_refused", namespace=seen.name.namespace, name=seen.name.name, error=one_line(refused))
        return False
    scaling.acted[seen.name] = seen.version
    return scaled


async def _going(scene: Scene, scaling: Scaling, fleet: Fleet) -> list[Marked]:
    """The marked workers for whom the scale has not been lowered yet: each is let go once, or a busy one would go, too."""
    moment = time.monotonic()
    for worker_id, since in list(scaling.let_go.items()):
        if moment - since > FORGOTTEN:  # its ReplicaSet took another pod, which was not ready
            del scaling.let_go[worker_id]
    found: list[Marked] = await scene.database.run(marked, fleet.key.namespace, fleet.pool)
    return [each for each in found if each.worker_id not in scaling.let_go and _stays(scene, each)]


def _stays(scene: Scene, worker: Marked) -> bool:
    """Whether its pod is there, as far as is known, and not on its way out."""
    pod = scene.yard.pods.get(worker.pod_uid)
    return pod is None or not (pod.leaving or pod.over)


async def _give_back(scene: Scene, scales: Scales, fleet: Fleet, staying: Sequence[Marked]) -> None:
    """Let marked workers claim again."""
    if not staying:
        return
    await scene.writer.write(unmark, [each.worker_id for each in staying])
    for each in staying:
        await scales.cost(Name(fleet.key.namespace, each.pod), None)
