"""WorkerPools: their rows, and what their status tells. It is more than a row that makes a pool ready: its workers are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fibflow.store.pools import PoolFigures
from fibflow.store.synced import Name, PoolRow, forget_pools, stored_pools, sync_pools
from fibflow_operator import plan, staffing
from fibflow_operator.deployment import fleet_of
from fibflow_operator.plan import Standing
from fibflow_operator.reconcile.subject import Decide, Report, Scene
from fibflow_operator.world import Key, Resource


class WorkerPools:
    """The kind WorkerPool."""

    forget = staticmethod(forget_pools)

    async def stored(self, scene: Scene, names: Collection[Name]) -> Mapping[Name, PoolRow]:
        return await scene.database.run(stored_pools, names)

    async def gather(self, scene: Scene, resources: Sequence[Resource]) -> Decide[PoolRow]:
        return plan.pool_row

    async def sync(self, scene: Scene, rows: Sequence[tuple[Resource, PoolRow]]) -> None:
        await scene.writer.write(sync_pools, [row for _, row in rows])

    def heirs(self, scene: Scene, row: PoolRow) -> Collection[Key]:
        return ()

    async def reports(self, scene: Scene, resources: Sequence[tuple[Resource, Standing]]) -> dict[Key, Report]:
        return {each.key: _report(scene, each, standing) for each, standing in resources}


def _report(scene: Scene, resource: Resource, standing: Standing) -> Report:
    """Of a pool that was looked at too early nothing is said of its workers yet."""
    ready, synced = plan.ready(standing), plan.synced(standing)
    if not scene.yard.knows(resource.key.namespace):
        return Report((synced,) if ready.status else (ready, synced), _kept(resource), complete=False)
    fleet = fleet_of(resource)
    seen = scene.yard.deployments.get(fleet.deployment)
    figures = scene.pool_figures.get(resource.key.place, NOTHING)
    ours = seen if seen is not None and seen.owner == fleet.uid else None
    if ready.status:
        pods = scene.yard.of_pool(resource.key.namespace, fleet.pool)
        _, applied = scene.applied.get(resource.key, ("", 0))
        ready = staffing.ready(scene.refused.get(resource.key), fleet.fixed, ours, pods, figures, applied)
    decided = scene.scaled.get(resource.key)
    findings = (ready, synced, staffing.progressing(ready, ours), staffing.scaling_active(fleet.replicas is None, decided))
    counts = staffing.counts(fleet.pool, ours, figures)
    return Report(findings, {**counts, "scaling": decided} if fleet.replicas is None and decided else counts)


def _kept(resource: Resource) -> dict[str, Any]:
    return {name: value for name, value in resource.status.items() if name not in ("conditions", "observedGeneration")}


NOTHING = PoolFigures()
