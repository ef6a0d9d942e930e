"""What should be: the row that a resource asks for or why it gets none, and what its status is to say. Pure.

It is given a resource and what was found around it, and returns values. A spec that cannot be in force is a `Refusal`
with a reason and a sentence that a person can act on; the row that is stored already is then left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from fibflow import resource_values, schemas
from fibflow.errors import InvalidInput, shown
from fibflow.schedule import InvalidSchedule, Schedule
from fibflow.store.cron import CronDeclaration
from fibflow.store.figures import TypeFigures
from fibflow.store.synced import DeletionPolicy, Name, PoolRow, TypeRow
from fibflow.store.synced_crons import CronFigures, CronRow, cron_row
from fibflow_operator.conditions import Finding, Reason, Type, written
from fibflow_operator.world import GROUP, VERSION, Key, Kind, Resource

DEEPEST = 64
"""Levels that a payload may be nested."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a spec is not in force, for a person."""

    reason: Reason
    message: str


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def pool_row(resource: Resource) -> PoolRow | Refusal:
    """The row of a WorkerPool."""
    return _checked(resource, _pool_row)


def type_row(resource: Resource, claimants: Sequence[Key], pools: Collection[str]) -> TypeRow | Refusal:
    """The row of a TaskType, among those that claim its name, oldest first, and the WorkerPools of its namespace."""
    row = _checked(resource, _type_row)
    if isinstance(row, Refusal):
        return row
    if claimants and claimants[0] != resource.key:
        return Refusal(Reason.NAME_CONFLICT, _conflict(row.name, claimants[0].name))
    if resource.reference is not None and resource.reference not in pools:
        return Refusal(Reason.WORKER_POOL_NOT_FOUND, _no_pool(resource.reference))
    return row


def cron_task_row(resource: Resource, type_name: str | None) -> CronRow | Refusal:
    """The row of a CronTask whose reference leads to this type, or to none."""
    row = _checked(resource, lambda raw: _cron_row(resource.key.place, raw, type_name))
    if isinstance(row, Refusal) or type_name is not None:
        return row
    return Refusal(Reason.TASK_TYPE_NOT_FOUND, _no_type(str(resource.reference)))


def _conflict(name: str, older: str) -> str:
    return f"spec.name: {shown(name)} is the name of the older TaskType {shown(older)}; delete one of them, or rename this one"


def _no_pool(name: str) -> str:
    return f"spec.workerPoolRef.name: there is no WorkerPool {shown(name)} in this namespace; apply it, or correct the name"


def _no_type(name: str) -> str:
    return (
        f"spec.taskTypeRef.name: no TaskType {shown(name)} of this namespace is in force; apply or mend it, or start a worker "
        "whose code declares a task type of that name"
    )


def _checked(resource: Resource, make: Callable[[Mapping[str, Any]], R]) -> R | Refusal:
    """What is made of a spec, if its depth and its schema allow it."""
    depth = deepest(resource.spec)
    if depth > DEEPEST + 1:  # the payload is one level down
        return Refusal(Reason.PAYLOAD_TOO_DEEP, TOO_DEEP.format(depth - 1, DEEPEST))
    raw = _as_file(resource)
    if (refused := _breaks_schema(resource.key.kind, raw)) is not None:
        return refused
    try:
        return make(raw)
    except InvalidSchedule as error:
        return Refusal(Reason.INVALID_SCHEDULE, f"spec.schedule: {shown(resource.spec['schedule'])} is refused: {error}")
    except InvalidInput as error:
        reason = Reason.INVALID_PAYLOAD if error.field == "payload" else Reason.INVALID_SPEC
        return Refusal(reason, f"spec.{error}")


TOO_DEEP = "spec.payload: is nested {} levels deep, more than {}; make it flatter, or store it elsewhere and pass a reference"


def deepest(value: object) -> int:
    """How deep a value is nested, without recursion: 9,000 levels are a value, too."""
    levels, layer = 0, [value]
    while layer := [part for each in layer for part in _parts(each)]:
        levels += 1
    return levels


def _parts(value: object) -> Collection[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _as_file(resource: Resource) -> dict[str, Any]:
    metadata = {"name": resource.key.name, "namespace": resource.key.namespace}
    head = {"apiVersion": f"{GROUP}/{VERSION}", "kind": str(resource.key.kind)}
    return {**head, "metadata": metadata, "spec": dict(resource.spec)}


def _breaks_schema(kind: Kind, raw: Mapping[str, Any]) -> Refusal | None:
    """A schema that the API server has may be newer than ours, and then say more."""
    faults = schemas.faults(str(kind), raw)
    if not faults:
        return None
    unknown = faults[0].way_out.startswith("is not a known key")
    reason = Reason.UNKNOWN_FIELD if unknown else Reason.INVALID_SPEC
    return Refusal(reason, f"{faults[0].path}: {shown(faults[0].value)} {faults[0].way_out}")


def _pool_row(raw: Mapping[str, Any]) -> PoolRow:
    said = resource_values.worker_pool(raw)
    return PoolRow(_name(raw), said.app, said.image, said.slots, said.replicas, said.drain)


def _type_row(raw: Mapping[str, Any]) -> TypeRow:
    said = resource_values.task_type(raw)
    for field, text in (("name", said.type), ("description", said.description)):
        if text is not None and not text.strip():
            raise InvalidInput(field, text, "is empty; give it a value")
    policy = DeletionPolicy(raw["spec"].get("deletionPolicy", DeletionPolicy.DRAIN))
    plain = (said.type, said.options, said.per_worker, said.description, said.suspended)
    return TypeRow(_name(raw), *plain, policy, said.pool)


def _cron_row(place: Name, raw: Mapping[str, Any], type_name: str | None) -> CronRow:
    said = resource_values.cron_task(raw)
    Schedule.parse(said.schedule)
    declaration = CronDeclaration(
        name=said.name,
        type=type_name or said.type_ref,
        schedule=said.schedule,
        payload=said.payload,
        tag=said.tag,
        options=said.options,
        missed_run_policy=said.missed_run_policy,
        concurrency_policy=said.concurrency_policy,
        pause_on_failure=said.pause_on_failure,
        suspended=said.suspended,
    )
    return cron_row(place, declaration)


def _name(raw: Mapping[str, Any]) -> Name:
    return Name(raw["metadata"]["namespace"], raw["metadata"]["name"])


def remembered_pause(status: Mapping[str, Any]) -> str | None:
    """Why a cron task is paused after a failure, as its status remembers it."""
    for each in written(status):
        if (each.get("type"), each.get("status"), each.get("reason")) == (Type.PAUSED, "True", Reason.TICK_FAILED):
            return str(each.get("message", "")).partition(";")[0] or "a tick failed for good"
    return None


# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Standing:
    """How a sync ended: refused or not, and whether the database holds a row of the resource. `failure`: why it could not
    be tried."""

    refusal: Refusal | None = None
    stored: bool = True
    failure: str | None = None


def ready(standing: Standing) -> Finding:
    """Whether the spec is in force."""
    if standing.refusal is not None:
        return Finding(Type.READY, False, standing.refusal.reason, standing.refusal.message)
    if standing.failure is not None:
        return Finding(Type.READY, False, Reason.DATABASE_UNAVAILABLE, standing.failure)
    return Finding(Type.READY, True, Reason.IN_FORCE, "the spec is in force")


def synced(standing: Standing) -> Finding:
    """Whether the database holds what the spec says."""
    if standing.failure is not None:
        return Finding(Type.SYNCED, False, Reason.DATABASE_UNAVAILABLE, standing.failure)
    if standing.refusal is None:
        return Finding(Type.SYNCED, True, Reason.STORED, "the database holds what the spec says")
    if standing.stored:
        return Finding(Type.SYNCED, False, Reason.LAST_GOOD, "the last good spec stays in force")
    return Finding(Type.SYNCED, False, Reason.NOTHING_STORED, "the database holds nothing of this resource")


def type_paused(suspended: bool, figures: TypeFigures, name: str) -> Finding:
    """Whether a type's tasks are held back."""
    if suspended:
        return Finding(Type.PAUSED, True, Reason.SUSPENDED, "spec.suspend is true")
    if figures.paused:
        return Finding(Type.PAUSED, True, Reason.PAUSED, f"paused at run time; `fibflow resume-type {shown(name)}` resumes it")
    return Finding(Type.PAUSED, False, Reason.NOT_PAUSED, "nothing holds it back")


def cron_paused(suspended: bool, figures: CronFigures | None, remembered: str | None, name: str) -> Finding:
    """Whether a cron task's instants are held back. A failure is told first: it must outlive the database.

    `remembered` is the failure that the status tells of; it counts as long as there is no row.
    """
    reason = figures.paused_reason if figures is not None else remembered
    way_out = f"`fibflow cron resume {name}` resumes it"
    if reason is not None:
        return Finding(Type.PAUSED, True, Reason.TICK_FAILED, f"{reason}; {way_out}")
    if figures is not None and figures.paused:
        return Finding(Type.PAUSED, True, Reason.PAUSED, f"paused at run time; {way_out}")
    if suspended:
        return Finding(Type.PAUSED, True, Reason.SUSPENDED, "spec.suspend is true")
    return Finding(Type.PAUSED, False, Reason.NOT_PAUSED, "nothing holds it back")


def scheduled(stored: bool, paused: Finding) -> Finding:
    """Whether a cron task's instants are decided as they come."""
    if not stored:
        return Finding(Type.SCHEDULED, False, Reason.NOT_IN_FORCE, "no spec of it is in force")
    if paused.status:
        return Finding(Type.SCHEDULED, False, Reason.HELD_BACK, paused.message)
    return Finding(Type.SCHEDULED, True, Reason.TICKING, "its instants are decided as they come")


def type_counts(figures: TypeFigures) -> dict[str, Any]:
    """The figures of a TaskType's status."""
    counts: dict[str, Any] = {"pending": figures.pending, "running": figures.running, "failed": figures.failed}
    return counts | _given("oldestPendingTime", figures.oldest_pending)


def cron_counts(figures: CronFigures, held_back: bool) -> dict[str, Any]:
    """The figures of a CronTask's status; one that is held back has no next ticks."""
    counts: dict[str, Any] = {"active": figures.active, "missed": figures.missed}
    if not held_back:
        counts["nextTickTimes"] = [moment(instant) for instant in figures.next_ticks]
    if figures.last_outcome is not None:
        counts["lastOutcome"] = figures.last_outcome
    return counts | _given("lastTickTime", figures.last_tick)


def _given(name: str, instant: int | None) -> dict[str, Any]:
    return {} if instant is None else {name: moment(instant)}


def moment(instant: int) -> str:
    """An instant as the API writes it, to the second."""
    return datetime.fromtimestamp(instant // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
