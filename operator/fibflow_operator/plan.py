"""What should be: the row that a resource asks for, or why it gets none. Pure.

It is given a resource and what was found around it, and returns values. A spec that cannot be in force is a `Refusal`
with a reason and a sentence that a person can act on; the row that is stored already is then left as it is. What a status
says of it is decided in `verdict`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from fibflow import resource_values, schemas
from fibflow.errors import InvalidInput, shown
from fibflow.resources import cron_declaration
from fibflow.schedule import InvalidSchedule, Schedule
from fibflow.store.synced import DeletionPolicy, Name, PoolRow, TypeRow
from fibflow.store.synced_crons import CronRow, cron_row
from fibflow_operator.fleet import rule_of
from fibflow_operator.reasons import Reason, Refusal
from fibflow_operator.world import GROUP, VERSION, Key, Kind, Resource

DEEPEST = 64
"""Levels that a payload may be nested."""

R = TypeVar("R")


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


def _conflict(name: str, first: str) -> str:
    return f"spec.name: {shown(name)} is that of the TaskType {shown(first)}, which came first; delete one, or rename this one"


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
    return PoolRow(_name(raw), said.app, said.image, said.slots, said.replicas, said.drain, rule_of(raw["spec"]))


def _type_row(raw: Mapping[str, Any]) -> TypeRow:
    said = resource_values.task_type(raw)
    for field, text in (("name", said.type), ("description", said.description)):
        if text is not None and not text.strip():
            raise InvalidInput(field, text, "is empty; give it a value")
    policy = DeletionPolicy(raw["spec"].get("deletionPolicy", DeletionPolicy.DRAIN))
    plain = (said.type, said.options, said.per_worker, said.description, said.suspended)
    own = raw["spec"].get("worker")
    return TypeRow(_name(raw), *plain, policy, said.pool, None if own is None else rule_of(own))


def _cron_row(place: Name, raw: Mapping[str, Any], type_name: str | None) -> CronRow:
    said = resource_values.cron_task(raw)
    Schedule.parse(said.schedule)
    return cron_row(place, cron_declaration(said, type_name or said.type_ref))


def _name(raw: Mapping[str, Any]) -> Name:
    return Name(raw["metadata"]["namespace"], raw["metadata"]["name"])
