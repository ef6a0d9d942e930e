"""The part of a status that tells of workers: a row alone does not make a resource ready that has workers.

It gathers what is known of them; what that means is decided in `worker_verdict`.
"""

from __future__ import annotations

from typing import Any

from fibflow.store.pools import PoolFigures
from fibflow_operator import worker_verdict
from fibflow_operator.conditions import Finding
from fibflow_operator.deployment import digest_of, template
from fibflow_operator.fleet import Fleet
from fibflow_operator.reasons import Type
from fibflow_operator.reconcile.subject import Report, Scene
from fibflow_operator.workload_cache import Deployment
from fibflow_operator.world import Resource

NOTHING = PoolFigures()


def with_workers(scene: Scene, resource: Resource, report: Report) -> Report:
    """A report that tells of the workers, too, if there are to be any."""
    if resource.workers is None:
        return report
    if not (scene.cache.knows(resource.key.namespace) and scene.cache.knows_pods(resource.key.namespace)):
        return _too_early(resource, report)
    return _told(scene, scene.fleet(resource), report, resource.status.get("scaling"))


def _too_early(resource: Resource, report: Report) -> Report:
    """Nothing is said of the workers yet, nor that the resource is ready; what was told of them stays."""
    kept = {name: value for name, value in resource.status.items() if name not in ("conditions", "observedGeneration")}
    findings = tuple(each for each in report.findings if each.type is not Type.READY or not each.status)
    return Report(findings, {**kept, **report.figures}, complete=False)


def _told(scene: Scene, fleet: Fleet, report: Report, before: Any) -> Report:
    """`before`: the decision that was told last, which stays until this leader has made one."""
    seen = scene.cache.deployments.get(fleet.deployment)
    ours = seen if seen is not None and seen.owner == fleet.uid else None
    figures = scene.pool_figures.get(fleet.place, NOTHING)

    def judged(finding: Finding) -> Finding:
        if finding.type is not Type.READY or not finding.status:
            return finding
        pods = scene.cache.of_pool(fleet.key.namespace, fleet.pool)
        refused, applied = scene.refused.get(fleet.key), _applied(scene, fleet, ours)
        return worker_verdict.ready(refused, fleet.fixed, ours, pods, figures, applied)

    findings = tuple(map(judged, report.findings))
    ready = next(each for each in findings if each.type is Type.READY)
    scaled, decided = fleet.replicas is None, scene.scaled.get(fleet.key)
    counts: dict[str, Any] = {**report.figures, **worker_verdict.counts(fleet.pool, ours, figures)}
    counts |= {"scaling": decided or before} if scaled and (decided or before) else {}
    more = (worker_verdict.progressing(ready, ours), worker_verdict.scaling_active(scaled, decided))
    return Report((*findings, *more), counts)


def _applied(scene: Scene, fleet: Fleet, ours: Deployment | None) -> int | None:
    """The Deployment's generation after what was applied last; None while it says what an older spec said."""
    if ours is None or ours.digest != digest_of(template(fleet)):
        return None
    _, generation = scene.applied.get(fleet.key, ("", 0))
    return generation
