"""What tells a leader of the cluster: the watch on our resources, and informers of Deployments, disruption budgets and pods.

Each runs in a thread of its own and hands what it sees to the leader's event loop. What to do about it is decided there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fibflow_operator.kube import workloads
from fibflow_operator.kube.api import Api
from fibflow_operator.kube.informer import Informer
from fibflow_operator.leading import Leading
from fibflow_operator.resource_watch import ResourceWatch
from fibflow_operator.workload_cache import POOL
from fibflow_operator.world import seen


class Sources:
    """Those of one leader. `namespaces`: those that are watched, none for all."""

    def __init__(self, api: Api, namespaces: Sequence[str]) -> None:
        self._api = api
        self._namespaces = namespaces
        self._watch: ResourceWatch | None = None
        self._informers: list[Informer] = []

    def start(self, leading: Leading) -> None:
        """Begin to tell this leader of Deployments, budgets and pods."""
        self._informers = [*self._informers_of(leading, asyncio.get_running_loop())]
        for informer in self._informers:
            informer.start()

    def watch(self, leading: Leading) -> None:
        """Begin to tell it of our resources, or begin anew where the watch tells of nothing any more."""
        if self._watch is not None:
            self._watch.renew()
            return
        loop = asyncio.get_running_loop()

        def deliver(kind: str, event: str | None, raw: Mapping[str, Any]) -> None:
            resource = seen({"kind": kind, **raw})
            loop.call_soon_threadsafe(leading.see, resource, event == "DELETED")

        self._watch = ResourceWatch(self._api.credentials, self._namespaces, deliver)
        self._watch.start()

    def _informers_of(self, leading: Leading, loop: asyncio.AbstractEventLoop) -> Iterator[Informer]:
        controller = leading.controller
        for namespace in self._namespaces or (None,):
            deployments = Relay(loop, controller.see_deployments, controller.see_deployment, namespace)
            yield Informer(self._api, workloads.deployments(namespace), POOL, deployments)
            budgets = Relay(loop, controller.see_budgets, controller.see_budget, namespace)
            yield Informer(self._api, workloads.budgets(namespace), POOL, budgets)
            pods = Relay(loop, controller.see_pods, controller.see_pod, namespace)
            yield Informer(self._api, workloads.pods(namespace), POOL, pods)

    @property
    def alive(self) -> bool:
        """Whether all that was started goes on."""
        return (self._watch is None or self._watch.alive) and all(each.alive for each in self._informers)

    async def stop(self) -> None:
        """Tell nothing any more."""
        for informer in self._informers:
            informer.stop()
        if self._watch is not None:
            await asyncio.to_thread(self._watch.stop)


@dataclass(slots=True)
class Relay:
    """Hands on what a thread tells of Deployments, budgets or pods to the event loop."""

    loop: asyncio.AbstractEventLoop
    lists: Callable[..., None]
    events: Callable[..., None]
    namespace: str | None

    def whole(self, version: int, objects: list[Mapping[str, Any]], begun: float) -> None:
        self._soon(self.lists, self.namespace, version, objects, begun)

    def event(self, type_: str, object_: Mapping[str, Any]) -> None:
        self._soon(self.events, type_, object_)

    def _soon(self, call: Callable[..., None], *told: object) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody listens any more
            self.loop.call_soon_threadsafe(call, *told)
