"""The autoscaler: it decides again and again how many workers each fleet should have, and scales the fleet to that.

It looks every second, and sooner when there is a reason: new work is announced, workers were reconciled, or a Deployment was
seen that its last call had changed. While the database cannot be read, what the backlog scales stays as it is. Before it looks
it does what workers would if there were any: it decides instants of cron tasks, and makes ready what is due. How many workers
there should be is decided in fibflow.scaling; reconcile/scaling.py and reconcile/scale_down.py bring it about.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from fibflow.errors import DatabaseError, LeadLost, OtherInstallation, one_line
from fibflow.logs import logger
from fibflow.store.demand import Demand, Pace, advance, demands, namespaces_behind, paces
from fibflow.store.draining import pools_marked
from fibflow.store.installation import Lead
from fibflow.store.synced import Name
from fibflow_operator.fleet import Fleet, fleet_of
from fibflow_operator.health import Rounds
from fibflow_operator.keyed_executor import KeyedExecutor
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.observed import OBSERVED, PoolSize
from fibflow_operator.reconcile.scale_down import Scales
from fibflow_operator.reconcile.scaling import Scaling, Sight, scale
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.workload_cache import Deployment
from fibflow_operator.world import Key

log = logger(__name__)
SCALE_EVERY, SCALE_AT_MOST = 1.0, 0.1
"""Seconds between two decisions while nothing is heard, and at the least."""
PACED_EVERY = 5.0
"""Seconds for which it is known what comes in and how long it takes."""
AT_ONCE = 8
"""Fleets that are scaled side by side; about each of them one thing is done at a time."""
SHARE = 4
"""Times as long as a look at the database took nobody looks again; what the API server takes its time for costs it nothing."""


@dataclass(slots=True)
class Autoscaler:
    """One leader's. `changed` is told the resources about which it is decided otherwise than before."""

    scene: Scene
    scales: Scales
    changed: Callable[[Iterable[Key]], None]
    rounds: Rounds = field(default_factory=Rounds)
    work: asyncio.Event = field(default_factory=asyncio.Event)
    scaling: Scaling = field(default_factory=Scaling)
    paces: Mapping[int, Pace] = field(default_factory=dict)
    paced_at: float = -math.inf
    paced_under: Lead | None = None
    sight: Sight | None = None
    executor: KeyedExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.executor = KeyedExecutor(AT_ONCE, self.work.set)

    def told(self, seen: Deployment | None) -> None:
        """This Deployment was seen; None: workers were reconciled."""
        if seen is None or self.scaling.acts.outdated(seen):
            self.work.set()

    async def run(self) -> None:
        """Scale, every second and whenever there is a reason to look, until cancelled."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SCALE_EVERY):
                        await self.work.wait()
                self.work.clear()
                looked = await self._round(self._fleets())
                OBSERVED.pools = self.sizes()
                await asyncio.sleep(max(SCALE_AT_MOST, SHARE * looked))
        finally:
            await self.executor.shutdown()

    async def _round(self, fleets: Sequence[Fleet]) -> float:
        """Look, and begin to scale; the seconds that the look took. What is slow about one fleet holds no other up."""
        self.scaling.keep([fleet.place for fleet in fleets])
        begin = time.monotonic()
        with self.rounds.at("scaling"):
            self.sight = await self._sight(sorted({fleet.key.namespace for fleet in fleets if fleet.replicas is None}))
        looked = time.monotonic() - begin
        for fleet in fleets:
            self.executor.submit(fleet.key, partial(self._scale, fleet.key))
        await self.executor.wait(SCALE_AT_MOST)
        return looked

    def heard(self, told: str) -> None:
        """There is new work of some type, or may be."""
        if not told.startswith("w"):
            self.work.set()

    def sizes(self) -> list[PoolSize]:
        """What each pool should have and has; one that nothing is decided about yet is left out."""
        wanted = ((fleet, self._wanted(fleet)) for fleet in self._fleets())
        return [PoolSize(*fleet.place, number, self._ready(fleet)) for fleet, number in wanted if number is not None]

    def _wanted(self, fleet: Fleet) -> int | None:
        decided: int | None = self.scene.scaled.get(fleet.key, {}).get("replicas")
        return decided if fleet.replicas is None else fleet.replicas

    def _ready(self, fleet: Fleet) -> int:
        seen = self.scene.cache.deployments.get(fleet.deployment)
        return seen.ready if seen is not None and seen.owner == fleet.uid else 0

    def _fleets(self) -> list[Fleet]:
        """Those that are scaled, each as the last spec says that was accepted: what a newer one says may be anything."""
        return [fleet for key in self.scene.standings if (fleet := self._fleet(key)) is not None]

    def _fleet(self, key: Key) -> Fleet | None:
        resource, standing = self.scene.world.get(key), self.scene.standings.get(key)
        if resource is None or standing is None or standing.rule is None:
            return None
        return fleet_of(resource, standing.rule)

    async def _scale(self, key: Key) -> None:
        """As it is to be scaled now: it may have waited for others."""
        fleet = self._fleet(key)
        if fleet is None:
            return
        try:
            with self.rounds.at(f"scaling {fleet.place.namespace}/{fleet.pool}"):
                if await scale(self.scene, self.scales, self.scaling, fleet, self.sight):
                    self.changed([fleet.key])
        except Exception as error:
            known = isinstance(error, ApiFailure | DatabaseError | LeadLost)
            (log.warning if known else log.exception)("not_scaled", name=fleet.key.name, error=one_line(error))

    async def _sight(self, namespaces: Sequence[str]) -> Sight | None:
        """What is asked for in these namespaces, and who is marked; None if that cannot be known now."""
        try:
            await self._advance()
            marked: set[Name] = await self.scene.database.run(pools_marked)
            return Sight(await self._demands(namespaces) if namespaces else {}, marked)
        except OtherInstallation:
            raise
        except Exception as error:  # whatever a row makes of it, what is not known freezes, and ends nothing
            known = isinstance(error, DatabaseError | LeadLost)
            (log.warning if known else log.exception)("demand_not_read", error=one_line(error))
            return None

    async def _advance(self) -> None:
        for namespace in await self.scene.database.run(namespaces_behind):
            await self.scene.writer.write(advance, namespace)

    async def _demands(self, namespaces: Sequence[str]) -> Mapping[Name, Demand]:
        lead = self.scene.writer.lead
        if time.monotonic() - self.paced_at > PACED_EVERY or lead is not self.paced_under:  # ids are others after a wipe
            self.paces, self.paced_at, self.paced_under = await self.scene.database.run(paces), time.monotonic(), lead
        found: Mapping[Name, Demand] = await self.scene.database.run(demands, namespaces, self.paces)
        return found
