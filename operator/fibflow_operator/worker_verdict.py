"""What the status of a resource with workers says of them: whether they are there, and what keeps them from it. Pure.

The first cause in this order is told: the spec is refused, the Deployment cannot be, its pods may not be made, a pod's own
trouble, a handler that is missing, workers that are still starting. Where load decides how many there are, a pool that merely
grows is ready all the same: its spec is in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fibflow.errors import shown
from fibflow.store.pools import PoolFigures
from fibflow_operator.conditions import Finding
from fibflow_operator.pods import Pod
from fibflow_operator.reasons import Reason, Refusal, Type
from fibflow_operator.workload_cache import POOL, Deployment


def ready(
    refused: Refusal | None,
    asked: int | None,
    seen: Deployment | None,
    pods: Sequence[Pod],
    figures: PoolFigures,
    applied: int | None = 0,
) -> Finding:
    """Whether the workers are as the spec says; the pods with the newest first.

    `asked`: how many the spec asks for; None where load decides, be it by way of somebody who looks at it. `applied`: the
    Deployment's generation after what was applied last; None while it does not say what the spec says.
    """
    if refused is not None:
        return Finding(Type.READY, False, refused.reason, refused.message)
    trouble = _trouble(seen, pods)
    if trouble is not None:
        return Finding(Type.READY, False, trouble.reason, trouble.message)
    if figures.unhandled:
        return Finding(Type.READY, False, Reason.HANDLER_MISSING, _unhandled(figures.unhandled))
    if (lacking := _lacking(asked, seen, applied)) is not None:
        return Finding(Type.READY, False, Reason.WORKERS_STARTING, lacking)
    return Finding(Type.READY, True, Reason.IN_FORCE, "the spec is in force")


def _lacking(asked: int | None, seen: Deployment | None, applied: int | None) -> str | None:
    if seen is None:
        return _up(asked, None)
    if applied is None:
        return "the Deployment is not as the spec says yet"
    there = _in_force(seen, applied) if asked is None else seen.rolled_out and seen.wanted == asked
    return None if there else _up(asked, seen)


def _in_force(seen: Deployment, applied: int) -> bool:
    """Whether all pods that there are, however many, are of the newest template."""
    return seen.observed >= applied and seen.updated >= seen.replicas


def _up(asked: int | None, seen: Deployment | None) -> str:
    if seen is None:
        return "no workers are ready and of the newest spec"
    return f"{seen.ready} of {seen.wanted if asked is None else asked} workers are ready and of the newest spec"


def _trouble(seen: Deployment | None, pods: Sequence[Pod]) -> Refusal | None:
    if seen is not None and seen.complaint is not None and not seen.rolled_out:
        return Refusal(Reason.PODS_REFUSED, seen.complaint)
    for pod in pods:
        if pod.trouble is not None and not (pod.leaving or pod.over):
            return Refusal(pod.trouble.reason, f"pod {pod.name}: {pod.trouble.message}")
    return None


def _unhandled(names: Iterable[str]) -> str:
    first = [shown(name) for name in names][:5]
    return f"the application has no handler for {', '.join(first)}; add it, or bind the type to another pool"


def progressing(found: Finding, seen: Deployment | None) -> Finding:
    """Whether workers are being started or replaced, of a pool that was found ready or not."""
    if found.status and seen is not None and seen.rolled_out:
        return Finding(Type.PROGRESSING, False, Reason.ROLLED_OUT, "all workers are there, and of the newest spec")
    if found.status or found.reason is Reason.WORKERS_STARTING:
        return Finding(Type.PROGRESSING, True, Reason.WORKERS_STARTING, _up(None, seen) if found.status else found.message)
    return Finding(Type.PROGRESSING, False, Reason.STUCK, found.message)


def scaling_active(scaled: bool, decided: Mapping[str, Any] | None) -> Finding:
    """Who decides how many workers there are."""
    if not scaled:
        return Finding(Type.SCALING_ACTIVE, False, Reason.REPLICAS_DECIDE, "spec.replicas decides")
    if decided is not None and decided["reason"] == "NoSignal":
        return Finding(Type.SCALING_ACTIVE, False, Reason.NO_SIGNAL, "what waits cannot be read; nothing changes meanwhile")
    return Finding(Type.SCALING_ACTIVE, True, Reason.BACKLOG_DECIDES, "what waits and comes in decides")


def counts(pool: str, seen: Deployment | None, figures: PoolFigures) -> dict[str, Any]:
    """The figures of the status."""
    replicas, up = (seen.replicas, seen.ready) if seen is not None else (0, 0)
    return {"replicas": replicas, "ready": up, "busySlots": figures.busy, "selector": f"{POOL}={pool}"}
