"""Scaling: how many workers a fleet is to have is decided anew, told, and brought about.

How many there should be is decided in fibflow.scaling; which workers go, and in which steps, is in scale_down.py.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from fibflow.logs import logger
from fibflow.metrics import counter
from fibflow.scaling import Decision, History, Policy, Signal, decide
from fibflow.store.demand import Demand
from fibflow.store.synced import Name
from fibflow_operator.fleet import Fleet
from fibflow_operator.reconcile.scale_down import Acts, Change, Scales
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.workload_cache import Deployment

log = logger(__name__)
DECISIONS = counter("fibflow_operator_scaling_decisions", "Decisions about a pool that differ from the last one.", ["because"])
WARM_UP = 10.0
"""Seconds before a cron tick at which a worker is to be there."""
NOTHING = Demand()


@dataclass(frozen=True, slots=True)
class Sight:
    """What the database tells: what is asked of the pools that the backlog scales, and which pools have marked workers."""

    demands: Mapping[Name, Demand]
    marked: Collection[Name] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
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
    acts: Acts = field(default_factory=Acts)

    def keep(self, places: Collection[Name]) -> None:
        """Forget all pools but these."""
        for place in self.histories.keys() - set(places):
            del self.histories[place]


async def scale(scene: Scene, scales: Scales, scaling: Scaling, fleet: Fleet, sight: Sight | None) -> bool:
    """Bring one fleet to what is decided now; whether the decision is another. Raises ApiFailure, DatabaseError, LeadLost.

    `sight` is None where the database cannot be read.
    """
    rule, seen = fleet.rule, scene.cache.deployments.get(fleet.deployment)
    if seen is None or seen.owner != fleet.uid or seen.digest is None:
        return False
    demand = None if sight is None else sight.demands.get(fleet.place, NOTHING)
    decision, history = decide(rule, _signal(seen, demand), scaling.histories.get(fleet.place, History()))
    scaling.histories[fleet.place] = history
    news = _tell(scene, fleet, Explanation(decision, seen.wanted, demand))
    if scaling.acts.acted.get(seen.name) != seen.version:
        change = Change(scene, scales, scaling.acts, fleet, seen)
        await _bring(change, decision.replicas, sight, obeyed=rule.policy is not Policy.BACKLOG)
    return news


def _signal(seen: Deployment, demand: Demand | None) -> Signal:
    soon = demand is not None and demand.due_in is not None and demand.due_in < WARM_UP
    loads = demand.loads if demand is not None else None
    return Signal(time.monotonic(), seen.wanted, loads, due_soon=soon, rolling=seen.rolling)


def _tell(scene: Scene, fleet: Fleet, told: Explanation) -> bool:
    """Whether it is news."""
    before = scene.scaled.get(fleet.key)
    scene.scaled[fleet.key] = told.status()
    words = (told.decision.replicas, str(told.decision.because))
    if before is not None and (before["replicas"], before["reason"]) == words:
        return False
    DECISIONS.labels(str(told.decision.because)).inc()
    log.info("scaling_decided", pool=fleet.pool, namespace=fleet.key.namespace, current=told.current, **told.status())
    return True


async def _bring(change: Change, replicas: int, sight: Sight | None, obeyed: bool) -> None:
    """`obeyed`: somebody else decides how many there are, and gets as many at once, whether enough are idle or not."""
    fewer = change.seen.wanted - replicas
    if sight is None:
        if obeyed and fewer:
            await change.ask(replicas)
    elif fewer > 0 or change.fleet.place in sight.marked:
        await change.down(max(fewer, 0), obeyed)
    if sight is not None and fewer < 0:
        await change.ask(replicas)
