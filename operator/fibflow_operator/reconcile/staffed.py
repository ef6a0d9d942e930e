"""What the status of a resource with workers tells of them, besides the rest: its row alone does not make it ready.

What ails workers is told by `staffing`; here it is put together with what is known of them.
"""

from __future__ import annotations

from typing import Any

from fibflow.store.pools import PoolFigures
from fibflow_operator import staffing
from fibflow_operator.conditions import Finding
from fibflow_operator.deployment import digest_of, template
from fibflow_operator.fleet import Fleet
from fibflow_operator.reasons import Type
from fibflow_operator.reconcile.subject import Report, Scene
from fibflow_operator.world import Resource
from fibflow_operator.yard import Deployment

NOTHING = PoolFigures()


def with_workers(scene: Scene, resource: Resource, report: Report) -> Report:
    """A report that tells of the workers, too, if there are to be any."""
    if resource.workers is None:
        return report
    if not (scene.yard.knows(resource.key.namespace) and scene.yard.knows_pods(resource.key.namespace)):
        return _too_early(resource, report)
    return _told(scene, scene.fleet(resource), report)


def _too_early(resource: Resource, report: Report) -> Report:
    """Nothing is said of the workers yet, nor that the resource is ready; what was told of them stays."""
    kept = {name: value for name, value in resource.status.items() if name not in ("conditions", "observedGeneration")}
    findings = tuple(each for each in report.findings if each.type is not Type.READY or not each.status)
    return Report(findings, {**kept, **report.figures}, complete=False)


def _told(scene: Scene, fleet: Fleet, report: Report) -> Report:
    seen = scene.yard.deployments.get(fleet.deployment)
    ours = seen if seen is not None and seen.owner == fleet.uid else None
    figures = scene.pool_figures.get(fleet.place, NOTHING)

    def judged(finding: Finding) -> Finding:
        if finding.type is not Type.READY or not finding.status:
            return finding
        pods = scene.yard.of_pool(fleet.key.namespace, fleet.pool)
        return staffing.ready(scene.refused.get(fleet.key), fleet.fixed, ours, pods, figures, _applied(scene, fleet, ours))

    findings = tuple(map(judged, report.findings))
    ready = next(each for each in findings if each.type is Type.READY)
    decided = scene.scaled.get(fleet.key) if fleet.replicas is None else None
    counts: dict[str, Any] = {**report.figures, **staffing.counts(fleet.pool, ours, figures)}
    counts |= {"scaling": decided} if decided else {}
    more = (staffing.progressing(ready, ours), staffing.scaling_active(fleet.replicas is None, decided))
    return Report((*findings, *more), counts)


def _applied(scene: Scene, fleet: Fleet, ours: Deployment | None) -> int | None:
    """The Deployment's generation after what was applied last; None while it says what an older spec said."""
    if ours is None or ours.digest != digest_of(template(fleet)):
        return None
    _, generation = scene.applied.get(fleet.key, ("", 0))
    return generation
