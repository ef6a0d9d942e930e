"""CronTasks: a reference leads to a TaskType that is in force, or to a type of that name that only code declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fibflow.store.synced import Name, code_types, stored_types
from fibflow.store.synced_crons import CronFigures, CronRow, CronSync, cron_figures, forget_crons, stored_crons, sync_crons
from fibflow_operator import plan, verdict
from fibflow_operator.reasons import Refusal
from fibflow_operator.reconcile.subject import Decide, Report, Scene
from fibflow_operator.verdict import Standing
from fibflow_operator.world import Key, Resource


class CronTasks:
    """The kind CronTask."""

    forget = staticmethod(forget_crons)

    async def stored(self, scene: Scene, names: Collection[Name]) -> Mapping[Name, CronRow]:
        return await scene.database.run(stored_crons, names)

    async def gather(self, scene: Scene, resources: Sequence[Resource]) -> Decide[CronRow]:
        referred = {_referred(resource) for resource in resources}
        named = await scene.database.run(stored_types, referred)
        by_code = await scene.database.run(code_types, referred - named.keys())

        def decide(resource: Resource) -> CronRow | Refusal:
            place = _referred(resource)
            found = named[place].name if place in named else place.name if place in by_code else None
            return plan.cron_task_row(resource, found)

        return decide

    async def sync(self, scene: Scene, rows: Sequence[tuple[Resource, CronRow]]) -> None:
        syncs = [CronSync(row, verdict.remembered_pause(resource.status)) for resource, row in rows]
        await scene.writer.write(sync_crons, syncs)

    def heirs(self, scene: Scene, row: CronRow) -> Collection[Key]:
        return ()

    async def reports(self, scene: Scene, resources: Sequence[tuple[Resource, Standing]]) -> dict[Key, Report]:
        figures = await scene.database.run(cron_figures, {resource.key.place for resource, _ in resources})
        return {each.key: _report(each, standing, figures.get(each.key.place)) for each, standing in resources}


def _report(resource: Resource, standing: Standing, figures: CronFigures | None) -> Report:
    remembered = verdict.remembered_pause(resource.status)
    paused = verdict.cron_paused(bool(resource.spec.get("suspend")), figures, remembered, resource.key.name)
    findings = (verdict.ready(standing), verdict.synced(standing), paused, verdict.scheduled(figures is not None, paused))
    return Report(findings, {} if figures is None else verdict.cron_counts(figures, held_back=paused.status))


def _referred(resource: Resource) -> Name:
    return Name(resource.key.namespace, resource.reference or "")
