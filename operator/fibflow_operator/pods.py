"""Pods of workers: what was seen of one, what that means for its worker, and what ails it. Pure.

    leaving    it has a deletionTimestamp: its worker drains and keeps its lease, nothing is recovered
    gone       it left the API, has failed or succeeded, or is still there 5 s after its grace period, counted from when it
               was first seen leaving: a kubelet that is cut off never says that it ended
    ended      a container in it ended at that instant: processes that began before are no more
    silent     it is not ready though its containers are: its node does not answer, which is a hint and no more

What is done about it is in reconcile/pod_recovery.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fibflow_operator.reasons import Reason

POOL = "fibflow.dev/pool"
"""The label of a pod that says which pool it works for."""
OVERDUE = 5.0
"""Seconds past its grace period after which a leaving pod counts as gone."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What ails a pod, for a person: in the pod's own words."""

    reason: Reason
    message: str


WORKER = "worker"
"""The container that the worker runs in; others may stand beside it, and their ends are not its own."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as it was seen. `grace` in seconds; `ended_at`, of its worker, in microseconds since 1970 by its node's clock."""

    namespace: str
    name: str
    uid: str
    pool: str
    version: int
    created: str
    over: bool
    leaving: bool
    grace: float
    ended_at: int | None
    ready: bool
    silent: bool
    trouble: Trouble | None


def pod(raw: Mapping[str, Any]) -> Pod:
    """A pod from the API's JSON."""
    metadata, status = raw["metadata"], raw.get("status", {})
    containers = list(status.get("containerStatuses", ()))
    ready = _condition(status, "Ready").get("status") == "True"
    all_up = bool(containers) and all(each.get("ready") for each in containers)
    grace = metadata.get("deletionGracePeriodSeconds", raw.get("spec", {}).get("terminationGracePeriodSeconds", 30))
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        pool=metadata.get("labels", {}).get(POOL, ""),
        version=int(metadata["resourceVersion"]),
        created=str(metadata.get("creationTimestamp", "")),
        over=status.get("phase") in ("Failed", "Succeeded"),
        leaving="deletionTimestamp" in metadata,
        grace=float(grace),
        ended_at=max((instant for each in containers if each["name"] == WORKER for instant in _ends(each)), default=None),
        ready=ready,
        silent=all_up and not ready,
        trouble=None if ready else _trouble(status, containers),
    )


def overdue(pod: Pod, leaving_for: float) -> bool:
    """Whether a pod that was seen leaving so many seconds ago is to be believed gone."""
    return pod.leaving and leaving_for > pod.grace + OVERDUE


def _ends(container: Mapping[str, Any]) -> Iterator[int]:
    for when in ("state", "lastState"):
        finished = container.get(when, {}).get("terminated", {}).get("finishedAt")
        if finished:
            yield _micros(finished)


def _micros(instant: str) -> int:
    return int(datetime.strptime(instant, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * 1_000_000


def _condition(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions", ()) if each.get("type") == type_), {})


# ── what ails it ──────────────────────────────────────────────────────────────────────────────────────────────────

WAITING = {
    "ErrImagePull": Reason.IMAGE_UNAVAILABLE,
    "ImagePullBackOff": Reason.IMAGE_UNAVAILABLE,
    "ErrImageNeverPull": Reason.IMAGE_UNAVAILABLE,
    "InvalidImageName": Reason.IMAGE_UNAVAILABLE,
    "CreateContainerConfigError": Reason.CONFIGURATION_MISSING,
    "CreateContainerError": Reason.WORKER_FAILED,
    "RunContainerError": Reason.WORKER_FAILED,
}


def _trouble(status: Mapping[str, Any], containers: list[Mapping[str, Any]]) -> Trouble | None:
    placed = _condition(status, "PodScheduled")
    if placed.get("status") == "False" and placed.get("reason") == "Unschedulable":
        return Trouble(Reason.UNSCHEDULABLE, str(placed.get("message", "no node takes it")))
    found = (_of_container(each) for each in containers)
    return next((trouble for trouble in found if trouble is not None), None)


def _of_container(container: Mapping[str, Any]) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting", {})
    if (reason := WAITING.get(waiting.get("reason", ""))) is not None:
        return Trouble(reason, str(waiting.get("message") or waiting["reason"]))
    for when in ("state", "lastState"):
        ended = container.get(when, {}).get("terminated")
        if ended and ended.get("exitCode"):
            return Trouble(Reason.WORKER_FAILED, _last_words(ended))
    return None


def _last_words(ended: Mapping[str, Any]) -> str:
    """What the worker said last, its own sentence if it gave one; else how it ended."""
    lines = [line.strip() for line in str(ended.get("message", "")).splitlines() if line.strip()]
    own = [line.removeprefix("fibflow worker: ") for line in lines if line.startswith("fibflow worker: ")]
    how = f"{ended.get('reason', 'Error')}, exit code {ended.get('exitCode')}"
    return f"{own[-1]} ({how})" if own else f"{how}: {lines[-1][:500]}" if lines else how
