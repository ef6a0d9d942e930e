"""Tending: what a leader does about workers, in two queues: `workers`, by resource, and `pods`, by uid.

They are filled by what is told of Deployments and pods, and by the rows that were settled. Pods come first: their tasks
wait. Whatever fails is put back with a wait. What is done is the business of reconcile/workers.py and reconcile/pods.py.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fibflow.errors import DatabaseError, LeadLost, OtherInstallation, one_line
from fibflow.logs import logger
from fibflow.store.demand import Demand, advance, demands, namespaces_behind
from fibflow.store.lost_pods import PodRow
from fibflow.store.synced import Name
from fibflow_operator.deployment import Fleet, fleet_of
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.names import deployment_of, of_deployment, of_pool
from fibflow_operator.observed import OBSERVED, Staff
from fibflow_operator.pods import Pod, pod
from fibflow_operator.queue import Queue
from fibflow_operator.reconcile import pods, scaling, workers
from fibflow_operator.reconcile.pods import Ward
from fibflow_operator.reconcile.scaling import Scaling
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.reconcile.workers import Hands
from fibflow_operator.world import Key, Kind
from fibflow_operator.yard import deployment

log = logger(__name__)
WORKERS_AT_ONCE = 16
PODS_AT_ONCE = 64
SOON = 0.5
"""Seconds until a pod that leaves or is silent is looked at again."""
SCALE_EVERY, SCALE_AT_MOST = 1.0, 0.1
"""Seconds between two decisions while nothing is heard, and at the least."""
LATER = 10.0
"""Seconds, at least, until a Deployment is tried again that was refused."""


@dataclass(slots=True)
class Tending:
    """One leader's. `changed` is told the resources whose workers changed."""

    scene: Scene
    hands: Hands
    changed: Callable[[Iterable[Key]], None]
    workers: Queue[Key] = field(default_factory=Queue)
    pods: Queue[str] = field(default_factory=Queue)
    ward: Ward = field(default_factory=Ward)
    work: asyncio.Event = field(default_factory=asyncio.Event)
    scaling: Scaling = field(default_factory=Scaling)
    holders: deque[tuple[float, set[PodRow]]] = field(default_factory=partial(deque, maxlen=60))
    """Who held a lease, and when that had been read (monotonic seconds): who held one before a list was begun, and is not
    in it, has gone without being seen to. The first is read before anything is followed."""

    # ── being told ────────────────────────────────────────────────────────────────────────────────────────────

    def see_deployment(self, type_: str, raw: Mapping[str, Any]) -> None:
        """An event came."""
        seen = deployment(raw)
        self.scene.yard.see_deployment(seen, type_ == "DELETED")
        self._touched([of_deployment(seen.name)])

    def see_deployments(
        self, namespace: str | None, version: int, raw: Iterable[Mapping[str, Any]], begun: float = 0.0
    ) -> None:
        """A complete list came."""
        yard = self.scene.yard
        first = not yard.knows(namespace or "")
        changed = yard.see_all_deployments(namespace, version, map(deployment, raw))
        self._touched(map(of_deployment, changed))
        if first:  # who waited for the list goes on
            self._touched(self.scene.world.staffed())

    def see_pod(self, type_: str, raw: Mapping[str, Any]) -> None:
        """An event came."""
        seen = pod(raw)
        if self.scene.yard.see_pod(seen) or type_ == "DELETED":
            self._attend([seen], lost=type_ == "DELETED")

    def see_pods(self, namespace: str | None, version: int, raw: Iterable[Mapping[str, Any]], begun: float) -> None:
        """A complete list came, which was begun at that moment (monotonic seconds)."""
        seen = [pod(each) for each in raw]
        listed = {each.uid for each in seen}
        self._attend([each for each in seen if self.scene.yard.see_pod(each)])
        self._attend(self.scene.yard.missing(namespace, version, listed), lost=True)
        before = next((held for read, held in reversed(self.holders) if read < begun), set())
        unseen = pods.unlisted(before, namespace, listed)
        self.ward.lost |= unseen - self.ward.fenced.keys()
        self.pods.add(unseen)

    def _attend(self, seen: Iterable[Pod], lost: bool = False) -> None:
        for each in seen:
            if lost and each.uid not in self.ward.fenced:
                self.ward.lost.add(each.uid)
            self.pods.add([each.uid])
            self.changed([of_pool(each.namespace, each.pool)])

    def _touched(self, keys: Iterable[Key]) -> None:
        touched = list(keys)
        self.workers.add(touched)
        self.changed(touched)

    def settled(self, keys: Iterable[Key]) -> None:
        """Their rows are as they should be: what they say of workers is next, be it that they have none any more."""
        staffed = (key for key in keys if key.kind is not Kind.CRON_TASK)
        self.workers.add(key for key in staffed if self._is_staffed(key) or deployment_of(key) in self.scene.yard.deployments)

    def _is_staffed(self, key: Key) -> bool:
        resource = self.scene.world.get(key)
        return resource is not None and resource.workers is not None

    # ── the queues ────────────────────────────────────────────────────────────────────────────────────────────

    async def tend_workers(self) -> None:
        """Work on resources until cancelled."""
        while True:
            keys = await self.workers.taking(WORKERS_AT_ONCE)
            await asyncio.gather(*map(self._tend, keys))

    async def _tend(self, key: Key) -> None:
        try:
            done = await workers.reconcile(self.scene, self.hands, key)
        except Exception as error:
            known = isinstance(error, ApiFailure | DatabaseError | LeadLost)
            (log.warning if known else log.exception)("workers_not_tended", name=key.name, error=one_line(error))
            self.workers.failed(key, getattr(error, "retry_after", 0.0))
        else:
            self.workers.done(key) if done else self.workers.failed(key, LATER)
            self.changed([key])

    async def tend_pods(self) -> None:
        """Work on pods until cancelled."""
        while True:
            uids = await self.pods.taking(PODS_AT_ONCE)
            await asyncio.gather(*map(self._attend_one, uids))

    async def _attend_one(self, uid: str) -> None:
        try:
            again = await pods.attend(self.scene, self.ward, uid)
        except Exception as error:
            known = isinstance(error, DatabaseError | LeadLost)
            (log.warning if known else log.exception)("pod_not_attended", pod_uid=uid, error=one_line(error))
            self.pods.failed(uid)
        else:
            self.pods.done(uid)
            if again:
                self.pods.add_after(uid, SOON)

    async def scale(self) -> None:
        """Scale what the backlog scales, every second and whenever work is told of, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.work.wait(), SCALE_EVERY)
            self.work.clear()
            fleets = [fleet for key in self.scene.world.staffed() if (fleet := self._scaled(key)) is not None]
            if fleets:
                await self._scale(fleets)
                await asyncio.sleep(SCALE_AT_MOST)
            OBSERVED.pools = self.staff()

    def heard(self, told: str) -> None:
        """There is new work of some type, or may be."""
        if not told.startswith("w"):
            self.work.set()

    def staff(self) -> list[Staff]:
        """What each pool should have and has; one that nothing is decided about yet is left out."""
        found = [fleet_of(each) for key in self.scene.world.staffed() if (each := self.scene.world.get(key))]
        wanted = ((fleet, self._wanted(fleet)) for fleet in found if fleet is not None)
        return [Staff(*fleet.place, number, self._ready(fleet)) for fleet, number in wanted if number is not None]

    def _wanted(self, fleet: Fleet) -> int | None:
        decided: int | None = self.scene.scaled.get(fleet.key, {}).get("replicas")
        return decided if fleet.replicas is None else fleet.replicas

    def _ready(self, fleet: Fleet) -> int:
        seen = self.scene.yard.deployments.get(fleet.deployment)
        return seen.ready if seen is not None and seen.owner == fleet.uid else 0

    def _scaled(self, key: Key) -> Fleet | None:
        resource, standing = self.scene.world.get(key), self.scene.standings.get(key)
        if resource is None or standing is None or standing.refusal is not None or key in self.scene.refused:
            return None
        fleet = fleet_of(resource)
        return fleet if fleet is not None and fleet.replicas is None else None

    async def _scale(self, fleets: Sequence[Fleet]) -> None:
        demands = await self._demands(sorted({fleet.key.namespace for fleet in fleets}))
        for fleet in fleets:
            try:
                if await scaling.scale(self.scene, self.hands, self.scaling, fleet, demands):
                    self.changed([fleet.key])
            except Exception as error:
                known = isinstance(error, ApiFailure | DatabaseError | LeadLost)
                (log.warning if known else log.exception)("not_scaled", name=fleet.key.name, error=one_line(error))

    async def _demands(self, namespaces: Sequence[str]) -> Mapping[Name, Demand] | None:
        """What is asked for; None if that cannot be known now."""
        try:
            for namespace in await self.scene.database.run(namespaces_behind):
                await self.scene.writer.write(advance, namespace)
            found: Mapping[Name, Demand] = await self.scene.database.run(demands, namespaces)
        except OtherInstallation:
            raise
        except Exception as error:  # whatever a row makes of it, what is not known freezes, and ends nothing
            known = isinstance(error, DatabaseError | LeadLost)
            (log.warning if known else log.exception)("demand_not_read", error=one_line(error))
            return None
        return found

    async def remember(self) -> None:
        """Note who holds a lease now. Raises DatabaseError."""
        held = await pods.leaseholders(self.scene)
        self.holders.append((time.monotonic(), held))
