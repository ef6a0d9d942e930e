"""WorkerPools: their rows, and what their status tells. It is more than a row that makes a pool ready: its workers are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fibflow.store.synced import Name, PoolRow, forget_pools, stored_pools, sync_pools
from fibflow_operator import plan, verdict
from fibflow_operator.reconcile.subject import Decide, Report, Scene
from fibflow_operator.reconcile.worker_report import with_workers
from fibflow_operator.verdict import Standing
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
        return {each.key: with_workers(scene, each, _report(standing)) for each, standing in resources}


def _report(standing: Standing) -> Report:
    return Report((verdict.ready(standing), verdict.synced(standing)))
