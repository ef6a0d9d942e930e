"""Scale-down: a fleet is made smaller by `/scale` alone, and idle workers go first.

Down, in this order: idle workers are marked in the database, so that they take nothing new; their pods are annotated, so
that a ReplicaSet takes them first; then the scale is lowered by as many as are marked, and no more. A ReplicaSet takes pods
that are not ready before any other, whatever they cost: they are the first that are let go, and nobody is while one of them
may work. If demand returns, marks are taken back first. Where somebody else decides how many there are, idle workers go
first all the same, but as many go as were asked for. How many are to go is decided in fibflow.scaling.

Protocol. What is known of a Deployment may be old, and a scale that was decided on it might take busy pods. So each call
names the version that it was decided on; the API server refuses it if there is another, and nothing more is done until the
watch has brought that one. Who was let go by a call that was refused stays, and may claim again; where it is not known
whether a call was carried out, who was let go counts as gone for a while.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fibflow.errors import one_line
from fibflow.logs import logger
from fibflow.store.draining import Marked, mark_idle, marked, marks_of, unmark
from fibflow.store.synced import Name
from fibflow_operator.fleet import Fleet
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.pods import Pod
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.workload_cache import Deployment

log = logger(__name__)
UNKNOWN = 500
"""The statuses from which on a call that failed may have been carried out."""
FORGOTTEN = 30.0
"""Seconds after which a worker that was let go and is still there counts again."""
DEAREST = "-1000"


class Scales(Protocol):
    """Where a Deployment is scaled, and a pod's deletion cost is written."""

    async def scale(self, seen: Deployment, replicas: int) -> bool: ...

    async def cost(self, pod: Name, cost: str | None) -> None: ...


@dataclass(slots=True)
class Acts:
    """What was done so far."""

    let_go: dict[int, float] = field(default_factory=dict)
    """Workers for whom the scale was lowered, and when (monotonic seconds)."""
    acted: dict[Name, int] = field(default_factory=dict)
    """The version of each Deployment that was acted upon: what is known of it is old until there is another."""

    def outdated(self, seen: Deployment) -> bool:
        """Whether the version that was waited for has come: the Deployment as our last call, or somebody else, left it."""
        if self.acted.get(seen.name, seen.version) == seen.version:
            return False
        del self.acted[seen.name]
        return True


@dataclass(frozen=True, slots=True)
class Change:
    """What is done about one fleet, whose Deployment was seen so."""

    scene: Scene
    scales: Scales
    acts: Acts
    fleet: Fleet
    seen: Deployment

    async def down(self, fewer: int, obeyed: bool) -> None:
        """Let so many go, of those that do nothing; take back the marks of those that are to stay."""
        idle, going = await self._workless(), await self._going()
        if idle is None and obeyed:
            idle = []
        most = max(fewer - len(idle or ()), 0)
        await self._give_back(going[: max(len(going) - most, 0)])
        if fewer == 0 or idle is None or not (obeyed or self.seen.all_updated):
            return
        going = going[max(len(going) - most, 0) :]
        if len(going) < most and await self.scene.writer.write(mark_idle, *self.fleet.place, most - len(going)):
            going = await self._going()
        await self._let_go(going, idle[:fewer], fewer if obeyed else len(going) + min(len(idle), fewer))

    async def _let_go(self, going: Sequence[Marked], idle: Sequence[Pod], fewer: int) -> None:
        if not fewer:
            return
        pods = [*(each.pod for each in going), *(each.name for each in idle)]
        await self._price(pods, DEAREST)
        log.info("workers_let_go", pool=self.fleet.pool, namespace=self.fleet.place.namespace, pods=pods, fewer=fewer)
        self.acts.let_go |= {each.worker_id: time.monotonic() for each in going}
        if not await self.ask(self.seen.wanted - fewer):
            for each in going:
                self.acts.let_go.pop(each.worker_id, None)
            await self._give_back(going)
            await self._price([each.name for each in idle], None)

    async def ask(self, replicas: int) -> bool:
        """Whether the Deployment is scaled, as it was seen. Raises ApiFailure if that is not known."""
        name = self.seen.name
        try:
            scaled = await self.scales.scale(self.seen, replicas)
        except ApiRefused as refused:
            if refused.status >= UNKNOWN:
                raise
            log.warning("scale_refused", namespace=name.namespace, name=name.name, error=one_line(refused))
            return False
        self.acts.acted[name] = self.seen.version
        return scaled

    async def _workless(self) -> list[Pod] | None:
        """The pods that are not ready and whose workers hold no lease: a ReplicaSet takes them before any other.

        None while it is not known, or may be that one of them works: then a busy pod could be the first to go.
        """
        there = [pod for pod in self.scene.cache.of_pool(*self.fleet.place) if not (pod.leaving or pod.over)]
        unready = {pod.uid: pod for pod in there if not pod.ready}
        if len(unready) != self.seen.replicas - self.seen.ready or (unready and len(there) != self.seen.replicas):
            return None
        marks: dict[str, bool] = await self.scene.database.run(marks_of, unready) if unready else {}
        return None if not all(marks.values()) else [pod for uid, pod in unready.items() if uid not in marks]

    async def _going(self) -> list[Marked]:
        """The marked workers for whom the scale has not been lowered yet: each is let go once, or a busy one would go, too."""
        moment = time.monotonic()
        for worker_id, since in list(self.acts.let_go.items()):
            if moment - since > FORGOTTEN:  # its ReplicaSet took another pod, which was not ready
                del self.acts.let_go[worker_id]
        found: list[Marked] = await self.scene.database.run(marked, *self.fleet.place)
        return [each for each in found if each.worker_id not in self.acts.let_go and self._stays(each)]

    def _stays(self, worker: Marked) -> bool:
        """Whether its pod is there, as far as is known, and not on its way out."""
        pod = self.scene.cache.pods.get(worker.pod_uid)
        return pod is None or not (pod.leaving or pod.over)

    async def _give_back(self, staying: Sequence[Marked]) -> None:
        """Let marked workers claim again."""
        if staying:
            await self.scene.writer.write(unmark, [each.worker_id for each in staying])
            await self._price([each.pod for each in staying], None)

    async def _price(self, pods: Iterable[str], cost: str | None) -> None:
        for pod in pods:
            await self.scales.cost(Name(self.fleet.place.namespace, pod), cost)
