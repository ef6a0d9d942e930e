"""Scaling: how many pods a pool has is brought to what is decided, by `/scale` alone, and idle workers go first.

Down, in this order: idle workers are marked in the database, so that they take nothing new; their pods are annotated, so
that a ReplicaSet takes them first; then the scale is lowered by as many as are marked, and no more. A ReplicaSet takes pods
that are not ready before any other, whatever they cost, so nothing goes unless all are. If demand returns, marks are taken
back first. How many there should be is decided in fibflow.scaling.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fibflow.logs import logger
from fibflow.metrics import counter
from fibflow.scaling import Decision, History, Policy, Rule, Signal, decide
from fibflow.store.demand import Demand
from fibflow.store.draining import Marked, mark_idle, marked, unmark
from fibflow.store.synced import Name
from fibflow_operator.deployment import Fleet
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.yard import Deployment

log = logger(__name__)
DECISIONS = counter("fibflow_operator_scaling_decisions", "Decisions about a pool that differ from the last one.", ["because"])
WARM_UP = 10.0
"""Seconds before a cron tick at which a worker is to be there."""
FORGOTTEN = 30.0
"""Seconds after which a worker that was let go and is still there counts again."""
DEAREST = "-1000"
NOTHING = Demand()


class Scales(Protocol):
    """Where a Deployment is scaled, and a pod's deletion cost is written."""

    async def scale(self, place: Name, replicas: int) -> None: ...

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
    place = fleet.place
    demand = None if demands is None else demands.get(place, NOTHING)
    decision, history = decide(rule, _signal(seen, demand), scaling.histories.get(place, History()))
    scaling.histories[place] = history
    news = _tell(scene, fleet, Told(decision, seen.wanted, demand))
    if decision.replicas > seen.wanted:
        await _give_back(scene, scales, fleet, await _going(scene, scaling, fleet))
        await scales.scale(seen.name, decision.replicas)
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
        log.info("workers_let_go", pool=fleet.pool, namespace=here[0], pods=[each.pod for each in going])
        scaling.let_go |= {each.worker_id: time.monotonic() for each in going}
        await scales.scale(seen.name, seen.wanted - len(going))


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
