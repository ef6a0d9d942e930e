"""Reasons: why a condition is as it is, in a word, what that means, and what to do about it.

`REASONS` is the published table; docs/reference/reasons.md is made from it. When one applies is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
        "An older TaskType, or one of the same second whose own name comes first, has the name that code uses.",
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
class Refusal:
    """Why a spec is not in force, for a person."""

    reason: Reason
    message: str
