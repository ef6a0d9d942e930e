"""Reports: tell a resource how it stands, if its status does not say so already, and people by an Event when it matters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from fibflow.errors import one_line
from fibflow.logs import logger
from fibflow_operator import verdict
from fibflow_operator.conditions import Finding, merged, written
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.reasons import Reason, Type
from fibflow_operator.reconcile.rows import SUBJECTS
from fibflow_operator.reconcile.subject import Report, Scene
from fibflow_operator.verdict import Standing
from fibflow_operator.world import Edition, Key, Resource

log = logger(__name__)
Told = tuple[Edition, Report]
"""What is to be said, and of which spec."""


class Teller(Protocol):
    """Where statuses and Events are written."""

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource | None: ...

    async def tell(self, resource: Resource, reason: str, message: str, warning: bool) -> None: ...


async def gather(scene: Scene, keys: Collection[Key]) -> dict[Key, Told]:
    """What is to be said of these keys, of those that are there and were synced as they are. Raises DatabaseError."""
    found: dict[Key, Report] = {}
    editions: dict[Key, Edition] = {}
    for kind, subject in SUBJECTS.items():
        synced = [each for key in keys if key.kind is kind and (each := _synced(scene, key)) is not None]
        found |= {each.key: _without_database(each, how) for each, how in synced if how.failure is not None}
        if told := [(each, how) for each, how in synced if how.failure is None]:
            found |= await subject.reports(scene, told)
        editions |= {each.key: each.edition for each, _ in synced}
    return {key: (editions[key], said) for key, said in found.items()}


def _synced(scene: Scene, key: Key) -> tuple[Resource, Standing] | None:
    """One whose newest spec is not synced yet is told of once it is: what is true of an older spec is not true of it."""
    resource, standing = scene.world.get(key), scene.standings.get(key)
    if resource is None or standing is None or standing.edition != resource.edition:
        return None
    return resource, standing


def _without_database(resource: Resource, standing: Standing) -> Report:
    """The rest stays as it was told last, a pause above all."""
    kept = {name: value for name, value in resource.status.items() if name not in ("conditions", "observedGeneration")}
    return Report((verdict.ready(standing), verdict.synced(standing)), kept, complete=False)


async def tell(scene: Scene, teller: Teller, key: Key, told: Told) -> set[Key]:
    """Bring one status up to date, if it is still that spec's; what is to be looked at again. Raises ApiFailure.

    The answer to a write shows the whole resource: a spec, too, that no event has brought yet, and that none will bring any
    more, for it would be older than the answer.
    """
    resource, (edition, report) = scene.world.get(key), told
    if resource is None or resource.edition != edition:
        return set()
    status = {**report.figures, "observedGeneration": resource.generation}
    keep = not report.complete
    status["conditions"] = merged(report.findings, resource.status, resource.generation, datetime.now(UTC), keep)
    if status == resource.status:
        return set()
    with scene.world.telling(key, status):
        if (now_is := await teller.write_status(resource, status)) is None:
            return set()
        touched = scene.world.see(now_is)
    await _tell_changes(teller, resource, report.findings)
    return touched


async def _tell_changes(teller: Teller, resource: Resource, findings: tuple[Finding, ...]) -> None:
    """An Event where Ready or Paused changed. It is a courtesy: if it fails, nothing else does."""
    before = {each.get("type"): (each.get("status"), each.get("reason")) for each in written(resource.status)}
    for finding in findings:
        found = (str(finding.status), str(finding.reason))
        if finding.type not in TOLD or before.get(str(finding.type), TOLD[finding.type]) == found:
            continue
        warning = (finding.type is Type.READY) != finding.status and finding.reason is not Reason.WORKERS_STARTING
        try:
            await teller.tell(resource, str(finding.reason), finding.message, warning)
        except ApiFailure as failure:
            log.warning("event_not_written", name=resource.key.name, error=one_line(failure))


TOLD = {Type.READY: ("True", "InForce"), Type.PAUSED: ("False", "NotPaused")}
"""What is told by Events, and what goes without saying of a resource that has no status yet."""
