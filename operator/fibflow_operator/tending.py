"""Tending: what a leader does about workers, in two queues: `workers`, by resource, and `pods`, by uid.

They are filled by what is told of Deployments and pods, and by the rows that were settled. Pods come first: their tasks
wait. Whatever fails is put back with a wait. What is done is the business of reconcile/workers.py and reconcile/pods.py.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from fibflow.errors import DatabaseError, LeadLost, OtherInstallation, one_line
from fibflow.logs import logger
from fibflow.store.demand import Demand, Pace, advance, demands, namespaces_behind, paces
from fibflow.store.draining import pools_marked
from fibflow.store.lost_pods import PodRow
from fibflow.store.synced import Name
from fibflow_operator.deployment import Fleet, fleet_of
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.names import deployment_of, of_deployment, of_pool
from fibflow_operator.pods import Pod, pod
from fibflow_operator.queue import Queue
from fibflow_operator.reconcile import pods, scaling, workers
from fibflow_operator.reconcile.pods import Pods, Ward
from fibflow_operator.reconcile.scaling import Scaling, Sight
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.reconcile.workers import Hands
from fibflow_operator.world import Key, Kind
from fibflow_operator.yard import P, Places, budget, deployment

log = logger(__name__)
WORKERS_AT_ONCE = 16
PODS_AT_ONCE = 64
SOON = 0.5
"""Seconds until a pod that leaves or is silent is looked at again."""
SCALE_EVERY, SCALE_AT_MOST = 1.0, 0.1
"""Seconds between two decisions while nothing is heard, and at the least."""
PACED_EVERY = 5.0
"""Seconds for which it is known what comes in and how long it takes."""
SHARE = 4
"""Times as long as a look took nobody looks again."""
LATER = 10.0
"""Seconds, at least, until a Deployment is tried again that was refused."""


class Both(Hands, Pods, Protocol):
    """Where Deployments are changed, and pods looked up."""


@dataclass(slots=True)
class Tending:
    """One leader's. `changed` is told the resources whose workers changed."""

    scene: Scene
    hands: Both
    changed: Callable[[Iterable[Key]], None]
    workers: Queue[Key] = field(default_factory=Queue)
    pods: Queue[str] = field(default_factory=Queue)
    ward: Ward = field(default_factory=Ward)
    work: asyncio.Event = field(default_factory=asyncio.Event)
    scaling: Scaling = field(default_factory=Scaling)
    paces: Mapping[int, Pace] = field(default_factory=dict)
    paced_at: float = -math.inf
    holders: deque[tuple[float, set[PodRow]]] = field(default_factory=partial(deque, maxlen=60))
    """Who held a lease, and when that had been read (monotonic seconds): who held one before a list was begun, and is not
    in it, has gone without being seen to. The first is read before anything is followed."""

    # ── being told ────────────────────────────────────────────────────────────────────────────────────────────

    def see_deployment(self, type_: str, raw: Mapping[str, Any]) -> None:
        """An event came."""
        seen = deployment(raw)
        self.scene.yard.deployments.see(seen, type_ == "DELETED")
        if self.scaling.acts.outdated(seen):
            self.work.set()
        self._touched([of_deployment(seen.name)])

    def see_deployments(
        self, namespace: str | None, version: int, raw: Iterable[Mapping[str, Any]], begun: float = 0.0
    ) -> None:
        """A complete list came."""
        self._see_all(self.scene.yard.deployments, namespace, version, map(deployment, raw))

    def see_budget(self, type_: str, raw: Mapping[str, Any]) -> None:
        """An event came."""
        seen = budget(raw)
        known = self.scene.yard.budgets.get(seen.name)
        self.scene.yard.budgets.see(seen, type_ == "DELETED")
        if type_ == "DELETED" or known is None or known.generation != seen.generation:  # its counts are nothing to us
            self._touched([of_deployment(seen.name)])

    def see_budgets(self, namespace: str | None, version: int, raw: Iterable[Mapping[str, Any]], begun: float = 0.0) -> None:
        """A complete list came."""
        self._see_all(self.scene.yard.budgets, namespace, version, map(budget, raw))

    def _see_all(self, places: Places[P], namespace: str | None, version: int, seen: Iterable[P]) -> None:
        yard = self.scene.yard
        first = not yard.knows(namespace or "")
        changed = places.see_all(namespace, version, seen)
        self._touched(map(of_deployment, changed))
        if first and yard.knows(namespace or ""):  # who waited for the lists goes on
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
        self.ward.lost |= {uid: name for uid, name in unseen.items() if uid not in self.ward.fenced}
        self.pods.add(unseen)

    def _attend(self, seen: Iterable[Pod], lost: bool = False) -> None:
        for each in seen:
            self.ward.see(each, lost)
            self.pods.add([each.uid])
            self.changed([of_pool(each.namespace, each.pool)])

    def _touched(self, keys: Iterable[Key]) -> None:
        touched = list(keys)
        self.workers.add(touched)
        self.changed(touched)

    def try_again(self) -> None:
        """What was refused may be different now, though nobody told of it."""
        self.workers.add(self.scene.refused)

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
            self.work.set()

    async def tend_pods(self) -> None:
        """Work on pods until cancelled."""
        while True:
            uids = await self.pods.taking(PODS_AT_ONCE)
            await asyncio.gather(*map(self._attend_one, uids))

    async def _attend_one(self, uid: str) -> None:
        try:
            again = await pods.attend(self.scene, self.hands, self.ward, uid)
        except Exception as error:
            known = isinstance(error, ApiFailure | DatabaseError | LeadLost)
            (log.warning if known else log.exception)("pod_not_attended", pod_uid=uid, error=one_line(error))
            self.pods.failed(uid, getattr(error, "retry_after", 0.0))
        else:
            self.pods.done(uid)
            if again:
                self.pods.add_after(uid, SOON)

    async def scale(self) -> None:
        """Scale, every second and whenever there is a reason to look, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.work.wait(), SCALE_EVERY)
            self.work.clear()
            fleets = [fleet for key in self.scene.world.staffed() if (fleet := self._scaled(key)) is not None]
            self.scaling.keep([fleet.place for fleet in fleets])
            if fleets:
                begin = time.monotonic()
                await self._scale(fleets)
                await asyncio.sleep(max(SCALE_AT_MOST, SHARE * (time.monotonic() - begin)))

    def heard(self, told: str) -> None:
        """There is new work of some type, or may be."""
        if not told.startswith("w"):
            self.work.set()

    def _scaled(self, key: Key) -> Fleet | None:
        resource, standing = self.scene.world.get(key), self.scene.standings.get(key)
        if resource is None or standing is None or standing.refusal is not None or key in self.scene.refused:
            return None
        return fleet_of(resource)

    async def _scale(self, fleets: Sequence[Fleet]) -> None:
        sight = await self._sight(sorted({fleet.key.namespace for fleet in fleets if fleet.replicas is None}))
        for fleet in fleets:
            try:
                if await scaling.scale(self.scene, self.hands, self.scaling, fleet, sight):
                    self.changed([fleet.key])
            except Exception as error:
                known = isinstance(error, ApiFailure | DatabaseError | LeadLost)
                (log.warning if known else log.exception)("not_scaled", name=fleet.key.name, error=one_line(error))

    async def _sight(self, namespaces: Sequence[str]) -> Sight | None:
        """What is asked for in these namespaces, and who is marked; None if that cannot be known now."""
        try:
            marked: set[Name] = await self.scene.database.run(pools_marked)
            return Sight(await self._demands(namespaces) if namespaces else {}, marked)
        except OtherInstallation:
            raise
        except Exception as error:  # whatever a row makes of it, what is not known freezes, and ends nothing
            known = isinstance(error, DatabaseError | LeadLost)
            (log.warning if known else log.exception)("demand_not_read", error=one_line(error))
            return None

    async def _demands(self, namespaces: Sequence[str]) -> Mapping[Name, Demand]:
        for namespace in await self.scene.database.run(namespaces_behind):
            await self.scene.writer.write(advance, namespace)
        if time.monotonic() - self.paced_at > PACED_EVERY:
            self.paces, self.paced_at = await self.scene.database.run(paces), time.monotonic()
        found: Mapping[Name, Demand] = await self.scene.database.run(demands, namespaces, self.paces)
        return found

    async def remember(self) -> None:
        """Note who holds a lease now. Raises DatabaseError."""
        held = await pods.leaseholders(self.scene)
        self.holders.append((time.monotonic(), held))
