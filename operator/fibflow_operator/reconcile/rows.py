"""Rows: bring what the database holds of some resources to what they say.

Many keys go through together, so that ten thousand resources are a few dozen transactions; a transaction that fails is
split until the row that fails stands alone. A row that is as wanted is not written. A row whose resource is gone is
forgotten, unless it passes to another resource that takes it over: the last good row of a resource is its own, and goes
with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fibflow.errors import DatabaseError, DatabaseUnavailable, InvalidInput, LeadLost, OutcomeUnknown, SchemaMismatch, one_line
from fibflow.logs import logger
from fibflow.scaling import Rule
from fibflow.store.synced import Name, PoolRow, TypeRow
from fibflow_operator.reasons import Reason, Refusal
from fibflow_operator.reconcile.crontask import CronTasks
from fibflow_operator.reconcile.subject import Decide, Scene, Subject
from fibflow_operator.reconcile.tasktype import TaskTypes
from fibflow_operator.reconcile.workerpool import WorkerPools
from fibflow_operator.verdict import Standing
from fibflow_operator.world import Key, Kind, Resource

log = logger(__name__)
SUBJECTS: dict[Kind, Subject[Any]] = {
    Kind.WORKER_POOL: WorkerPools(),
    Kind.TASK_TYPE: TaskTypes(),
    Kind.CRON_TASK: CronTasks(),
}
"""In the order in which a row of one may need a row of another."""
NOT_NOW = (DatabaseUnavailable, OutcomeUnknown, SchemaMismatch, LeadLost)
"""What has nothing to do with the rows."""


async def reconcile(scene: Scene, keys: Collection[Key]) -> set[Key]:
    """Bring the rows of these keys up to date; the keys to look at next. Raises DatabaseError, LeadLost."""
    following: set[Key] = set()
    for kind, subject in SUBJECTS.items():
        chosen = [key for key in keys if key.kind is kind]
        if chosen:
            following |= await _reconcile(scene, subject, chosen)
    return following


async def _reconcile(scene: Scene, subject: Subject[Any], keys: Sequence[Key]) -> set[Key]:
    resources = [resource for key in keys if (resource := scene.world.get(key)) is not None]
    gone = [key for key in keys if scene.world.is_gone(key)]
    stored = await subject.stored(scene, {key.place for key in keys})
    decide = await subject.gather(scene, resources)
    following = await _forget(scene, subject, gone, stored, decide)
    decided = [(resource, _one(resource, decide)) for resource in resources]
    refused = {resource.key: found for resource, found in decided if isinstance(found, Refusal)}
    wanted = [(resource, row) for resource, row in decided if not isinstance(row, Refusal)]
    rows = {resource.key: row for resource, row in wanted}
    changed = [(resource, row) for resource, row in wanted if stored.get(resource.key.place) != row]
    refused |= await _sync(scene, subject, changed)
    for resource in resources:
        refusal = refused.get(resource.key)
        is_stored = refusal is None or resource.key.place in stored
        row = stored.get(resource.key.place) if refusal is not None else rows[resource.key]
        scene.standings[resource.key] = Standing(refusal, is_stored, edition=resource.edition, rule=_rule(row))
    return following | _affected(scene, [resource for resource, _ in changed if resource.key not in refused])


def _rule(row: Any) -> Rule | None:
    return row.rule if isinstance(row, PoolRow | TypeRow) else None


async def rule_meanwhile(scene: Scene, key: Key) -> Rule | None:
    """How workers are scaled while the database does not answer: as a spec asks that only it could refuse; None for no such."""
    resource = scene.world.get(key)
    if resource is None or resource.workers is None:
        return None
    return _rule(_one(resource, await SUBJECTS[key.kind].gather(scene, [resource])))


def _one(resource: Resource, decide: Decide[Any]) -> Any:
    """No resource may stop the others, whatever it holds."""
    try:
        return decide(resource)
    except Exception as error:
        log.exception("resource_not_understood", kind=str(resource.key.kind), name=resource.key.name)
        return Refusal(Reason.INVALID_SPEC, f"spec: cannot be understood ({one_line(error)[:200]}); correct it")


async def _forget(
    scene: Scene, subject: Subject[Any], gone: Sequence[Key], stored: Mapping[Name, Any], decide: Decide[Any]
) -> set[Key]:
    following: set[Key] = set()
    ended = []
    for key in gone:
        scene.standings.pop(key, None)
        row = stored.get(key.place)
        heirs = set() if row is None else set(subject.heirs(scene, row))
        following |= heirs
        if row is not None and not any(_takes_over(scene, heir, decide) for heir in heirs):
            ended.append(key.place)
    if ended:
        log.info("resources_gone", count=len(ended), kind=str(gone[0].kind))
        await scene.writer.write(subject.forget, ended)
    return following


def _takes_over(scene: Scene, key: Key, decide: Decide[Any]) -> bool:
    """Whether a resource will have the row, or may have it: only one that is certainly refused will not."""
    resource, standing = scene.world.get(key), scene.standings.get(key, Standing())
    if resource is None or (_refused_by_the_database(standing) and standing.edition == resource.edition):
        return False
    named_is_known = scene.world.is_complete(key._replace(kind=Kind.WORKER_POOL))
    return not (isinstance(_one(resource, decide), Refusal) and named_is_known)


def _refused_by_the_database(standing: Standing) -> bool:
    return standing.refusal is not None and standing.refusal.reason is Reason.REFUSED


def _affected(scene: Scene, changed: Sequence[Resource]) -> set[Key]:
    """A TaskType that came into force may be what a CronTask waits for."""
    return {key for resource in changed for key in scene.world.dependents(resource) if key.kind is not resource.key.kind}


async def _sync(scene: Scene, subject: Subject[Any], rows: Sequence[tuple[Resource, Any]]) -> dict[Key, Refusal]:
    """Store rows, and say which the database refused."""
    if not rows:
        return {}
    try:
        await subject.sync(scene, rows)
        return {}
    except NOT_NOW:
        raise
    except (DatabaseError, InvalidInput) as error:
        if len(rows) == 1:
            return {rows[0][0].key: Refusal(Reason.REFUSED, f"the database refused it: {one_line(error)[:500]}")}
    half = len(rows) // 2
    return await _sync(scene, subject, rows[:half]) | await _sync(scene, subject, rows[half:])
