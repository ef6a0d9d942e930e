"""The worker controller: it keeps Deployments as their resources ask, and recovers the tasks of pods that are gone.

It has two queues: `workers`, by resource, and `pods`, by uid. What informers see of Deployments, disruption budgets and pods
fills them, and so does every row that was synced; what fails is put back with a wait. What is done about a key is in
reconcile/workers.py and reconcile/pod_recovery.py. How many workers there are is not its business: that is `autoscaler`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from fibflow.errors import DatabaseError, LeadLost, one_line
from fibflow.logs import logger
from fibflow.store.lost_pods import PodRow
from fibflow_operator.health import Rounds
from fibflow_operator.keyed_executor import KeyedExecutor
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.names import deployment_of, of_deployment, of_pool
from fibflow_operator.pods import Pod, pod
from fibflow_operator.queue import Queue
from fibflow_operator.reconcile import workers
from fibflow_operator.reconcile.pod_recovery import PodHistory, Pods, leaseholders, recover, unlisted
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.reconcile.workers import Workloads
from fibflow_operator.workload_cache import Deployment, Newest, P, budget, deployment
from fibflow_operator.world import Key, Kind

log = logger(__name__)
WORKERS_AT_ONCE = 16
PODS_AT_ONCE = 64
LATER = 10.0
"""Seconds, at least, until a Deployment is tried again that was refused."""


class Both(Workloads, Pods, Protocol):
    """Where Deployments are changed, and pods looked up."""


@dataclass(slots=True)
class WorkerController:
    """One leader's. `changed` is told the resources whose workers changed."""

    scene: Scene
    workloads: Both
    changed: Callable[[Iterable[Key]], None]
    rounds: Rounds = field(default_factory=Rounds)
    workers: Queue[Key] = field(default_factory=Queue)
    pods: Queue[str] = field(default_factory=Queue)
    history: PodHistory = field(default_factory=PodHistory)
    told: Callable[[Deployment | None], None] = lambda seen: None
    """Is told which Deployment was seen, or None when workers were reconciled: their number may be wrong now."""
    holders: deque[tuple[float, set[PodRow]]] = field(default_factory=partial(deque, maxlen=60))
    """The pods that held a lease, each time with the moment at which that had been read (monotonic seconds). One that held a
    lease before a list was begun and is not in the list has gone unseen; so the first is read before anything is listed."""

    # ── being told ────────────────────────────────────────────────────────────────────────────────────────────

    def see_deployment(self, type_: str, raw: Mapping[str, Any]) -> None:
        """An event came."""
        seen = deployment(raw)
        self.scene.cache.deployments.see(seen, type_ == "DELETED")
        self.told(seen)
        self._touched([of_deployment(seen.name)])

    def see_deployments(
        self, namespace: str | None, version: int, raw: Iterable[Mapping[str, Any]], begun: float = 0.0
    ) -> None:
        """A complete list came."""
        self._see_all(self.scene.cache.deployments, namespace, version, map(deployment, raw))

    def see_budget(self, type_: str, raw: Mapping[str, Any]) -> None:
        """An event came."""
        seen = budget(raw)
        known = self.scene.cache.budgets.get(seen.name)
        self.scene.cache.budgets.see(seen, type_ == "DELETED")
        if type_ == "DELETED" or known is None or replace(known, version=seen.version) != seen:  # not only its counts
            self._touched([of_deployment(seen.name)])

    def see_budgets(self, namespace: str | None, version: int, raw: Iterable[Mapping[str, Any]], begun: float = 0.0) -> None:
        """A complete list came."""
        self._see_all(self.scene.cache.budgets, namespace, version, map(budget, raw))

    def _see_all(self, places: Newest[P], namespace: str | None, version: int, seen: Iterable[P]) -> None:
        cache = self.scene.cache
        first = not cache.knows(namespace or "")
        changed = places.see_all(namespace, version, seen)
        self._touched(map(of_deployment, changed))
        if first and cache.knows(namespace or ""):  # who waited for the lists goes on
            self._touched(self.scene.world.with_workers())

    def see_pod(self, type_: str, raw: Mapping[str, Any]) -> None:
        """An event came."""
        seen = pod(raw)
        if self.scene.cache.see_pod(seen) or type_ == "DELETED":
            self._queue_pods([seen], lost=type_ == "DELETED")

    def see_pods(self, namespace: str | None, version: int, raw: Iterable[Mapping[str, Any]], begun: float) -> None:
        """A complete list came, which was begun at that moment (monotonic seconds)."""
        seen = [pod(each) for each in raw]
        listed = {each.uid for each in seen}
        if namespace not in self.scene.cache.listed:
            self.scene.cache.listed.add(namespace)
            self.changed(self.scene.world.with_workers())
        self._queue_pods([each for each in seen if self.scene.cache.see_pod(each)])
        self._queue_pods(self.scene.cache.missing(namespace, version, listed), lost=True)
        before = next((held for read, held in reversed(self.holders) if read < begun), set())
        unseen = unlisted(before, namespace, listed)
        self.history.lost |= {uid: name for uid, name in unseen.items() if uid not in self.history.fenced}
        self.pods.add(unseen)

    def _queue_pods(self, seen: Iterable[Pod], lost: bool = False) -> None:
        for each in seen:
            self.history.see(each, lost)
            self.pods.add([each.uid])
            self.changed([of_pool(each.namespace, each.pool)])

    def _touched(self, keys: Iterable[Key]) -> None:
        touched = list(keys)
        self.workers.add(touched)
        self.changed(touched)

    def try_again(self) -> None:
        """What was refused may be different now, though nobody told of it."""
        self.workers.add(self.scene.refused)

    def synced(self, keys: Iterable[Key]) -> None:
        """Their rows are as they should be: what they say of workers is next, be it that they have none any more."""
        able = (key for key in keys if key.kind is not Kind.CRON_TASK)
        self.workers.add(key for key in able if self._has_workers(key) or deployment_of(key) in self.scene.cache.deployments)

    def _has_workers(self, key: Key) -> bool:
        resource = self.scene.world.get(key)
        return resource is not None and resource.workers is not None

    # ── the queues ────────────────────────────────────────────────────────────────────────────────────────────

    async def reconcile_workers(self) -> None:
        """Work on resources until cancelled."""
        await self._side_by_side(self.workers, WORKERS_AT_ONCE, "workers", self._reconcile)

    async def recover_pods(self) -> None:
        """Work on pods until cancelled."""
        await self._side_by_side(self.pods, PODS_AT_ONCE, "pod", self._recover)

    async def _side_by_side(self, queue: Queue[Any], most: int, name: str, act: Callable[[Any], Awaitable[None]]) -> None:
        """What is slow about one key holds no other up."""

        async def round_of(key: Any) -> None:
            with self.rounds.at(f"{name} {'/'.join(key) if isinstance(key, Key) else key}"):
                await act(key)

        executor = KeyedExecutor(most, again=lambda: None)  # the queue gives nothing that is being worked on
        try:
            while True:
                for key in await queue.taking(most):
                    executor.submit(key, partial(round_of, key))
        finally:
            await executor.shutdown()

    async def _reconcile(self, key: Key) -> None:
        try:
            done = await workers.reconcile(self.scene, self.workloads, key)
        except Exception as error:
            known = isinstance(error, ApiFailure | DatabaseError | LeadLost)
            (log.warning if known else log.exception)("workers_not_reconciled", name=key.name, error=one_line(error))
            self.workers.failed(key, getattr(error, "retry_after", 0.0))
        else:
            self.workers.done(key) if done else self.workers.failed(key, LATER)
            self.changed([key])
            self.told(None)

    async def _recover(self, uid: str) -> None:
        try:
            again = await recover(self.scene, self.workloads, self.history, uid)
        except Exception as error:
            known = isinstance(error, ApiFailure | DatabaseError | LeadLost)
            (log.warning if known else log.exception)("pod_not_recovered", pod_uid=uid, error=one_line(error))
            self.pods.failed(uid, getattr(error, "retry_after", 0.0))
        else:
            self.pods.done(uid)
            if again is not None:
                self.pods.add_after(uid, again)

    async def remember(self, anew: bool = False) -> None:
        """Note who holds a lease now. `anew`: what was done about pods may have been undone. Raises DatabaseError."""
        if anew:
            self.history.begin_anew()
            self.pods.add(self.scene.cache.pods)
        held = await leaseholders(self.scene)
        self.holders.append((time.monotonic(), held))
