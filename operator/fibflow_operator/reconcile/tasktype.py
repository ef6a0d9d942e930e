"""TaskTypes: the oldest of those that claim a name has the row; its name passes on when it goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fibflow.store.figures import TypeFigures
from fibflow.store.synced import Name, TypeRow, forget_types, stored_types, sync_types
from fibflow_operator import plan, verdict
from fibflow_operator.reasons import Refusal
from fibflow_operator.reconcile.subject import Decide, Report, Scene
from fibflow_operator.reconcile.worker_report import with_workers
from fibflow_operator.verdict import Standing
from fibflow_operator.world import Key, Kind, Resource

NOTHING = TypeFigures()


class TaskTypes:
    """The kind TaskType."""

    forget = staticmethod(forget_types)

    async def stored(self, scene: Scene, names: Collection[Name]) -> Mapping[Name, TypeRow]:
        return await scene.database.run(stored_types, names)

    async def gather(self, scene: Scene, resources: Sequence[Resource]) -> Decide[TypeRow]:
        def decide(resource: Resource) -> TypeRow | Refusal:
            namespace = resource.key.namespace
            claimants = scene.world.claimants(namespace, resource.type_name)
            return plan.type_row(resource, claimants, _pools(scene, resource))

        return decide

    async def sync(self, scene: Scene, rows: Sequence[tuple[Resource, TypeRow]]) -> None:
        await scene.writer.write(sync_types, [row for _, row in rows])

    def heirs(self, scene: Scene, row: TypeRow) -> Collection[Key]:
        return scene.world.claimants(row.resource.namespace, row.name)[:1]

    async def reports(self, scene: Scene, resources: Sequence[tuple[Resource, Standing]]) -> dict[Key, Report]:
        return {each.key: with_workers(scene, each, _report(scene, each, standing)) for each, standing in resources}


def _report(scene: Scene, resource: Resource, standing: Standing) -> Report:
    figures = scene.type_figures.get(resource.key.place, NOTHING)
    paused = verdict.type_paused(bool(resource.spec.get("suspend")), figures, resource.type_name)
    return Report((verdict.ready(standing), verdict.synced(standing), paused), verdict.type_counts(figures))


def _pools(scene: Scene, resource: Resource) -> Collection[str]:
    """The WorkerPool that is referred to, if it is there."""
    if resource.reference is None:
        return ()
    found = scene.world.get(Key(Kind.WORKER_POOL, resource.key.namespace, resource.reference))
    return () if found is None else (found.key.name,)
