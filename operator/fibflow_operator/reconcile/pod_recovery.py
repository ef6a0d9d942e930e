"""Pod recovery: a pod that is gone is fenced, and its tasks go to others at once; one that leaves is left to its drain.

Each pod is looked at by its uid, as often as it changes, and again while it leaves or is silent: a silent one at the very
instant at which its worker will have missed two heartbeats, unless it renews. An act that was done is remembered and not
repeated. What a pod's state means is decided in `pods`.

That the watch lost a pod does not say that it is gone: a watch of a label loses what the label is taken off, and what a
worker in the database says of its pod and its pool may be wrong. So what was lost is looked up by its name before it is
fenced: it is gone if there is no such pod, or one with another uid.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fibflow.logs import logger
from fibflow.store.lost_pods import PodRow, fence_pods, pods_with_leases, reap_former, reap_silent, silent_in
from fibflow.store.synced import Name
from fibflow_operator.pods import Pod, overdue
from fibflow_operator.reconcile.subject import Scene

log = logger(__name__)
REMEMBERED = 20_000
SOON = 0.5
"""Seconds until a pod that leaves is looked at again."""
SELDOM = 5.0
"""Seconds, at most, until a silent one is: another worker may have begun in it."""
A_MOMENT = 0.01


class Pods(Protocol):
    """Where a pod is looked up by its name."""

    async def pod_uid(self, pod: Name) -> str | None: ...


@dataclass(slots=True)
class PodHistory:
    """What was done about pods so far, and since when they were seen leaving (monotonic seconds); by uid."""

    lost: dict[str, Name] = field(default_factory=dict)
    """Those that the watch lost, and how they were called."""
    fenced: dict[str, None] = field(default_factory=dict)
    ended_at: dict[str, int] = field(default_factory=dict)
    leaving_since: dict[str, float] = field(default_factory=dict)

    def see(self, pod: Pod, lost: bool) -> None:
        """It was seen, for the last time or not."""
        if not lost:
            self.lost.pop(pod.uid, None)
        else:
            self.lost[pod.uid] = Name(pod.namespace, pod.name)

    def forget(self, uid: str) -> None:
        """It is fenced: there is nothing more to do, ever."""
        self.lost.pop(uid, None)
        self.ended_at.pop(uid, None)
        self.leaving_since.pop(uid, None)
        self.fenced[uid] = None
        if len(self.fenced) > REMEMBERED:
            del self.fenced[next(iter(self.fenced))]

    def begin_anew(self) -> None:
        """Rely on nothing that was done."""
        self.fenced.clear()
        self.ended_at.clear()


async def recover(scene: Scene, pods: Pods, history: PodHistory, uid: str) -> float | None:
    """Do what is due about a pod; in how many seconds it is to be looked at again, None for not before something is told.

    Raises ApiFailure, DatabaseError, LeadLost.
    """
    if uid in history.fenced:
        if history.lost.pop(uid, None) is not None:
            scene.cache.pods.pop(uid, None)
        return None
    if uid in history.lost and await _lives(scene, pods, history, uid):
        return None
    pod = scene.cache.pods.get(uid)
    if _gone(history, uid, pod):
        await _fence(scene, history, uid, pod)
        return None
    if pod is None:
        return None
    if pod.ended_at is not None and history.ended_at.get(uid, 0) < pod.ended_at:
        _told("container_ended", pod, await scene.writer.write(reap_former, uid, pod.ended_at))
        history.ended_at[uid] = pod.ended_at
    again = await _listen(scene, pod) if pod.silent else None
    return SOON if pod.leaving else again


async def _listen(scene: Scene, pod: Pod) -> float:
    """Reap the silent worker of a silent pod; in how many seconds there may be one to reap."""
    wait: float | None = await scene.database.run(silent_in, [pod.uid])
    if wait == 0:
        _told("node_silent", pod, await scene.writer.write(reap_silent, [pod.uid]))
    return SELDOM if not wait else min(max(wait, A_MOMENT), SELDOM)


async def _lives(scene: Scene, pods: Pods, history: PodHistory, uid: str) -> bool:
    """Whether a pod that the watch lost is there all the same; it is of no pool of ours then."""
    if await pods.pod_uid(history.lost[uid]) != uid:
        return False
    if (name := history.lost.pop(uid, None)) is not None:  # or it was seen again meanwhile
        scene.cache.pods.pop(uid, None)
        log.info("pod_lives", pod_uid=uid, pod=name.name, namespace=name.namespace)
    return True


def _gone(history: PodHistory, uid: str, pod: Pod | None) -> bool:
    if uid in history.lost or pod is None:
        return uid in history.lost
    if not pod.leaving:
        return pod.over
    since = history.leaving_since.setdefault(uid, time.monotonic())
    return pod.over or overdue(pod, time.monotonic() - since)


async def _fence(scene: Scene, history: PodHistory, uid: str, pod: Pod | None) -> None:
    reaped = await scene.writer.write(fence_pods, [uid])
    log.info("pod_fenced", pod_uid=uid, pod=pod.name if pod else None, workers=reaped)
    if uid in history.lost:
        scene.cache.pods.pop(uid, None)
    history.forget(uid)


def _told(event: str, pod: Pod, reaped: list[int]) -> None:
    if reaped:
        log.info(event, pod=pod.name, namespace=pod.namespace, workers=reaped)


async def leaseholders(scene: Scene) -> set[PodRow]:
    """The pods that hold a lease now. Raises DatabaseError."""
    found: set[PodRow] = await scene.database.run(pods_with_leases)
    return found


def unlisted(before: set[PodRow], namespace: str | None, listed: Collection[str]) -> Mapping[str, Name]:
    """The pods that held a lease before a complete list was made and are not in it: nobody saw them go."""
    unseen = (each for each in before if namespace in (None, each.namespace) and each.pod_uid not in listed)
    return {each.pod_uid: Name(each.namespace, each.pod_id) for each in unseen}
