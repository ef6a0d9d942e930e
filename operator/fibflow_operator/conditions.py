"""Conditions of a status: what each reason says, and how a new finding changes what a status says already.

`REASONS` is the published table; docs/reference/reasons.md is made from it. `lastTransitionTime` moves only when the
status does, whoever wrote the condition before. When a finding is right is decided in `plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

LONGEST_MESSAGE = 1024


class Type(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    SYNCED = "Synced"
    PAUSED = "Paused"
    SCHEDULED = "Scheduled"
    PROGRESSING = "Progressing"
    SCALING_ACTIVE = "ScalingActive"


class Reason(StrEnum):
    """One word for the cause."""

    IN_FORCE = "InForce"
    INVALID_SPEC = "InvalidSpec"
    UNKNOWN_FIELD = "UnknownField"
    INVALID_SCHEDULE = "InvalidSchedule"
    INVALID_PAYLOAD = "InvalidPayload"
    PAYLOAD_TOO_DEEP = "PayloadTooDeep"
    NAME_CONFLICT = "NameConflict"
    TASK_TYPE_NOT_FOUND = "TaskTypeNotFound"
    WORKER_POOL_NOT_FOUND = "WorkerPoolNotFound"
    NO_IMAGE = "NoImage"
    NAME_TAKEN = "NameTaken"
    DEPLOYMENT_REFUSED = "DeploymentRefused"
    PODS_REFUSED = "PodsRefused"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    CONFIGURATION_MISSING = "ConfigurationMissing"
    WORKER_FAILED = "WorkerFailed"
    HANDLER_MISSING = "HandlerMissing"
    WORKERS_STARTING = "WorkersStarting"
    ROLLED_OUT = "RolledOut"
    STUCK = "Stuck"
    BACKLOG_DECIDES = "BacklogDecides"
    REPLICAS_DECIDE = "ReplicasDecide"
    NO_SIGNAL = "NoSignal"
    STORED = "Stored"
    LAST_GOOD = "LastGoodInForce"
    NOTHING_STORED = "NothingStored"
    REFUSED = "RefusedByDatabase"
    DATABASE_UNAVAILABLE = "DatabaseUnavailable"
    NOT_PAUSED = "NotPaused"
    SUSPENDED = "Suspended"
    PAUSED = "PausedByCommand"
    TICK_FAILED = "TickFailed"
    TICKING = "Ticking"
    HELD_BACK = "HeldBack"
    NOT_IN_FORCE = "NotInForce"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A line of the table."""

    type: Type
    status: bool
    reason: Reason
    means: str
    do: str


REASONS = (
    Meaning(Type.READY, True, Reason.IN_FORCE, "The spec is in force; also when it is suspended or paused.", "–"),
    Meaning(Type.READY, False, Reason.INVALID_SPEC, "A field holds what its schema does not allow.", "Correct the field."),
    Meaning(
        Type.READY, False, Reason.UNKNOWN_FIELD, "A field is of a newer version than the operator.", "Upgrade the operator."
    ),
    Meaning(
        Type.READY, False, Reason.INVALID_SCHEDULE, "The schedule cannot be read, or never comes.", "Correct spec.schedule."
    ),
    Meaning(Type.READY, False, Reason.INVALID_PAYLOAD, "The payload cannot be stored.", "Correct spec.payload."),
    Meaning(
        Type.READY, False, Reason.PAYLOAD_TOO_DEEP, "The payload is nested deeper than 64 levels.", "Make spec.payload flatter."
    ),
    Meaning(
        Type.READY,
        False,
        Reason.NAME_CONFLICT,
        "An older TaskType of the namespace has the name that code uses.",
        "Delete one of them; the other takes over.",
    ),
    Meaning(
        Type.READY,
        False,
        Reason.TASK_TYPE_NOT_FOUND,
        "No TaskType of that name is in force, and no worker declares such a type.",
        "Apply the TaskType, mend it, or correct spec.taskTypeRef.",
    ),
    Meaning(
        Type.READY,
        False,
        Reason.WORKER_POOL_NOT_FOUND,
        "There is no WorkerPool of that name in the namespace.",
        "Apply the WorkerPool, or correct spec.workerPoolRef.",
    ),
    Meaning(Type.READY, False, Reason.NO_IMAGE, "A cluster starts workers from an image.", "Set spec.image."),
    Meaning(
        Type.READY,
        False,
        Reason.NAME_TAKEN,
        "A Deployment or a disruption budget of that name is not this resource's, and is left alone; the message says whose.",
        "Delete that one, or give this resource another name.",
    ),
    Meaning(
        Type.READY,
        False,
        Reason.DEPLOYMENT_REFUSED,
        "The API server refuses the Deployment.",
        "Correct what it names.",
    ),
    Meaning(
        Type.READY,
        False,
        Reason.PODS_REFUSED,
        "The API server refuses the pods: a quota is exceeded, or a policy forbids them.",
        "Raise the quota, or correct the pod's settings.",
    ),
    Meaning(
        Type.READY, False, Reason.UNSCHEDULABLE, "No node takes a pod.", "Correct nodeSelector or resources, or add a node."
    ),
    Meaning(Type.READY, False, Reason.IMAGE_UNAVAILABLE, "A node cannot get the image.", "Correct spec.image, or push it."),
    Meaning(
        Type.READY,
        False,
        Reason.CONFIGURATION_MISSING,
        "A Secret, a ConfigMap or a key in it that the pods need is missing.",
        "Create it; the pods start by themselves.",
    ),
    Meaning(
        Type.READY,
        False,
        Reason.WORKER_FAILED,
        "A worker ends as soon as it starts: its application does not import, or the database is not to be had.",
        "Mend what its last words name; they are in the message.",
    ),
    Meaning(
        Type.READY,
        False,
        Reason.HANDLER_MISSING,
        "TaskTypes are bound to this pool whose handler its application lacks; their tasks wait.",
        "Add the handlers, or bind the types to another pool.",
    ),
    Meaning(
        Type.READY,
        False,
        Reason.WORKERS_STARTING,
        "Not all workers that replicas ask for are ready yet, or of the newest spec.",
        "Wait.",
    ),
    Meaning(Type.PROGRESSING, True, Reason.WORKERS_STARTING, "Workers are being started or replaced.", "–"),
    Meaning(Type.PROGRESSING, False, Reason.ROLLED_OUT, "All workers are there, and of the newest spec.", "–"),
    Meaning(Type.PROGRESSING, False, Reason.STUCK, "It does not go on as it is.", "See Ready."),
    Meaning(
        Type.SCALING_ACTIVE, True, Reason.BACKLOG_DECIDES, "What waits and comes in decides how many workers there are.", "–"
    ),
    Meaning(Type.SCALING_ACTIVE, False, Reason.REPLICAS_DECIDE, "spec.replicas decides, and who writes it.", "–"),
    Meaning(
        Type.SCALING_ACTIVE,
        False,
        Reason.NO_SIGNAL,
        "What waits cannot be read; the number of workers stays as it is.",
        "Start the database.",
    ),
    Meaning(Type.READY, False, Reason.REFUSED, "The database refused the row.", "Correct what the message names."),
    Meaning(
        Type.READY, False, Reason.DATABASE_UNAVAILABLE, "The spec could not be stored yet; it is tried again.", "Look at it."
    ),
    Meaning(Type.SYNCED, True, Reason.STORED, "The database holds what the spec says.", "–"),
    Meaning(Type.SYNCED, False, Reason.LAST_GOOD, "The last good spec stays in force.", "See Ready."),
    Meaning(Type.SYNCED, False, Reason.NOTHING_STORED, "The database holds nothing of this resource.", "See Ready."),
    Meaning(
        Type.SYNCED,
        False,
        Reason.DATABASE_UNAVAILABLE,
        "The database cannot be reached or lacks its tables; it is tried again.",
        "Start it, or run `fibflow migrate`.",
    ),
    Meaning(Type.PAUSED, False, Reason.NOT_PAUSED, "Nothing holds it back.", "–"),
    Meaning(Type.PAUSED, True, Reason.SUSPENDED, "spec.suspend is true.", "Set it to false."),
    Meaning(Type.PAUSED, True, Reason.PAUSED, "A person or a program paused it.", "Resume it with `fibflow`."),
    Meaning(
        Type.PAUSED, True, Reason.TICK_FAILED, "A tick's task failed for good, and pauseOnFailure is set.", "Mend, then resume."
    ),
    Meaning(Type.SCHEDULED, True, Reason.TICKING, "Its instants are decided as they come.", "–"),
    Meaning(Type.SCHEDULED, False, Reason.HELD_BACK, "It is suspended or paused.", "See Paused."),
    Meaning(Type.SCHEDULED, False, Reason.NOT_IN_FORCE, "No spec of it is in force.", "See Ready."),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is true now, of one type of condition."""

    type: Type
    status: bool
    reason: Reason
    message: str = ""


def merged(
    findings: Iterable[Finding], status: Mapping[str, Any], generation: int, now: datetime, keep: bool = False
) -> list[dict[str, Any]]:
    """The conditions that a status is to have, with the times of those whose status stays.

    `keep` leaves those that nothing was found about as they are.
    """
    before = {str(each.get("type")): each for each in written(status)}
    found = {str(each.type): _condition(each, before.get(str(each.type), {}), generation, now) for each in findings}
    others = {name: dict(each) for name, each in before.items() if keep and name not in found}
    return [*found.values(), *others.values()]


def _condition(finding: Finding, before: Mapping[str, Any], generation: int, now: datetime) -> dict[str, Any]:
    status = str(finding.status)
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "type": str(finding.type),
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since if isinstance(since, str) else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "reason": str(finding.reason),
        "message": shortened(finding.message),
    }


def shortened(message: str) -> str:
    """A message of one line that no terminal obeys and no status is too long for."""
    line = "".join(char if char.isprintable() else " " for char in message)
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 3] + "..."


def written(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions that a status has, whoever wrote them."""
    found = status.get("conditions")
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
