"""Resources as files: the YAML that a cluster takes, checked against the same schemas, as values.

    read(path)    one file or the files of a folder, each of one or more documents; a fault is an InvalidManifest
    apply(...)    task types and cron tasks as rows of the database

YAML is `yaml_text`'s business, the schemas are `schemas`', the values are in `resource_values`, processes are `dev`'s.
Nothing is stored unless all files are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fibflow import encoding, schemas, yaml_text
from fibflow.errors import InvalidInput, InvalidManifest, NotFound, UnknownTaskType
from fibflow.resource_values import (
    CronTaskResource,
    Manifests,
    TaskTypeResource,
    WorkerPoolResource,
    cron_task,
    task_type,
    type_name,
    worker_pool,
)
from fibflow.schedule import InvalidSchedule, Schedule
from fibflow.store.database import Database
from fibflow.store.tasktypes import Declaration, declare_types, types
from fibflow.yaml_text import Document, Place

__all__ = [
    "Applied",
    "CronTaskResource",
    "Manifests",
    "TaskTypeResource",
    "WorkerPoolResource",
    "apply",
    "files",
    "read",
]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of manifests.

    `waiting` are cron tasks whose task type no worker and no TaskType has declared yet, `left` the task types of earlier
    TaskTypes, of which what they said stays in force.
    """

    task_types: tuple[str, ...]
    cron_tasks: tuple[str, ...]
    waiting: tuple[str, ...]
    left: tuple[str, ...]


def files(path: Path) -> list[Path]:
    """A file, or the YAML files of a folder and the folders in it, by name. Raises InvalidManifest if there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidManifest("file", str(path), "does not exist; give a YAML file or a folder of them")
    found = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml") and file.is_file())
    if not found:
        raise InvalidManifest("folder", str(path), "holds no .yaml or .yml file")
    return found


def read(path: Path, namespace: str = "default") -> Manifests:
    """The resources of a file or a folder. Raises InvalidManifest for the first thing that is wrong."""
    found = [document for file in files(path) for document in yaml_text.documents(file)]
    if not found:
        raise InvalidManifest("manifests", str(path), "hold no resource")
    for document in found:
        _check(document, namespace)
    _check_names(found)
    _check_pool_refs(found)
    return Manifests(
        path if path.is_dir() else path.parent,
        tuple(task_type(document.value) for document in found if _kind(document) == "TaskType"),
        tuple(cron_task(document.value) for document in found if _kind(document) == "CronTask"),
        tuple(worker_pool(document.value) for document in found if _kind(document) == "WorkerPool"),
    )


def _check(document: Document, namespace: str) -> None:
    if not isinstance(document.value, dict):
        raise _refused(document, (), document.value, "is not a resource; write apiVersion, kind, metadata and spec")
    _check_kind(document)
    for place, value in _unstorable(document.value, ()):
        raise _refused(document, place, value, "holds a NUL or a lone surrogate; remove it")
    for fault in schemas.faults(_kind(document), document.value)[:1]:
        raise _refused(document, fault.place, fault.value, fault.way_out)
    own = document.value["metadata"].get("namespace", namespace)
    if own != namespace:
        way_out = f"is not the namespace {namespace!r} that is worked on; pass --namespace"
        raise _refused(document, ("metadata", "namespace"), own, way_out)
    _CHECKS[_kind(document)](document)


def _check_kind(document: Document) -> None:
    version, kind = document.value.get("apiVersion"), document.value.get("kind")
    if version != schemas.API_VERSION:
        raise _refused(document, ("apiVersion",), version, f"is not {schemas.API_VERSION}")
    if kind not in schemas.kinds():
        raise _refused(document, ("kind",), kind, f"is not one of {', '.join(schemas.kinds())}")


def _kind(document: Document) -> str:
    return str(document.value["kind"])


def _unstorable(value: object, place: Place) -> Iterator[tuple[Place, str]]:
    """The texts that neither a database nor a process takes, keys too, and their places."""
    if isinstance(value, str) and encoding.clean(value) != value:
        yield place, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _unstorable(key, place)
            yield from _unstorable(part, (*place, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _unstorable(part, (*place, index))


def _check_task_type(document: Document) -> None:
    spec = document.value["spec"]
    for name in ("name", "description"):
        _refuse_blank(document, ("spec", name), spec.get(name))
    _check_retry(document)


def _refuse_blank(document: Document, place: Place, value: str | None) -> None:
    if value is not None and not value.strip():
        raise _refused(document, place, value, "is empty; give it a value")


def _check_retry(document: Document) -> None:
    retry = document.value["spec"].get("retry", {})
    first, longest = retry.get("backoffSeconds"), retry.get("maxBackoffSeconds")
    if first is not None and longest is not None and longest < first:
        raise _refused(document, ("spec", "retry", "maxBackoffSeconds"), longest, "is less than backoffSeconds")


def _check_cron_task(document: Document) -> None:
    spec = document.value["spec"]
    _check_retry(document)
    _refuse_blank(document, ("spec", "taskTypeRef", "name"), spec["taskTypeRef"]["name"])
    _refuse_blank(document, ("spec", "tag"), spec.get("tag"))
    try:
        Schedule.parse(spec["schedule"])
    except InvalidSchedule as error:
        raise _refused(document, ("spec", "schedule"), spec["schedule"], f"is refused: {error}") from None
    try:
        encoding.encode(spec.get("payload", {}), "payload")
    except InvalidInput as error:
        raise _refused(document, ("spec", "payload"), spec["payload"], f"is refused: {error}") from None


def _check_worker_pool(document: Document) -> None:
    names: set[str] = set()
    for index, entry in enumerate(document.value["spec"].get("env", [])):
        place: Place = ("spec", "env", index, "name")
        if entry["name"].startswith("FIBFLOW_"):
            raise _refused(document, place, entry["name"], "begins with FIBFLOW_, which fibflow sets itself")
        if entry["name"] in names:
            raise _refused(document, place, entry["name"], "stands twice; keep one")
        names.add(entry["name"])
        if ("value" in entry) == ("valueFrom" in entry):
            raise _refused(document, ("spec", "env", index, "value"), entry.get("value"), "give either value or valueFrom")


_CHECKS: dict[str, Callable[[Document], None]] = {
    "TaskType": _check_task_type,
    "CronTask": _check_cron_task,
    "WorkerPool": _check_worker_pool,
}


def _check_names(found: list[Document]) -> None:
    """A name stands once for a kind, and so does the name that code uses for a task type."""
    seen: dict[tuple[str, str], Document] = {}
    for document in found:
        claims = [(_kind(document), document.value["metadata"]["name"], ("metadata", "name"))]
        if _kind(document) == "TaskType":
            claims.append(("task type", type_name(document.value), ("spec", "name")))
        for kind, name, place in claims:
            first = seen.setdefault((kind, name), document)
            if first is not document:
                way_out = f"names a {kind} already, in {first.file}, line {first.line}; give it another name"
                raise _refused(document, place, name, way_out)


def _check_pool_refs(found: list[Document]) -> None:
    pools = {document.value["metadata"]["name"] for document in found if _kind(document) == "WorkerPool"}
    for document in found:
        name = document.value["spec"].get("workerPoolRef", {}).get("name")
        if name is not None and name not in pools:
            known = f"there are {', '.join(sorted(pools))}" if pools else "there is none"
            raise _refused(document, ("spec", "workerPoolRef", "name"), name, f"is not a WorkerPool here; {known}")


def _refused(document: Document, place: Place, value: object, way_out: str) -> InvalidManifest:
    path = schemas.Fault(place, value, way_out).path
    return InvalidManifest(f"{document.file}, line {document.line_of(place)}: {path}", value, way_out)


def apply(database: Database, manifests: Manifests) -> Applied:
    """Store task types and cron tasks; delete the cron tasks of resources that are gone. Repeating it changes nothing.

    Task types stay, for tasks may be of them. Raises what the database raises.
    """
    declarations = [_declaration(resource) for resource in manifests.task_types]
    database.call(declare_types, declarations, source="resource")
    _delete_crons(database, keep={resource.name for resource in manifests.cron_tasks})
    stored = {resource.name: _put_cron(database, manifests, resource) for resource in manifests.cron_tasks}
    return Applied(
        task_types=tuple(declaration.name for declaration in declarations),
        cron_tasks=tuple(name for name in stored if stored[name]),
        waiting=tuple(name for name in stored if not stored[name]),
        left=_left(database, declared={declaration.name for declaration in declarations}),
    )


def _declaration(resource: TaskTypeResource) -> Declaration:
    return Declaration(
        name=resource.type,
        options=resource.options,
        max_concurrent_tasks=resource.per_worker,
        description=resource.description,
        suspended=resource.suspended,
    )


def _left(database: Database, declared: Set[str]) -> tuple[str, ...]:
    stored = database.call(types)
    return tuple(each.name for each in stored if each.source == "resource" and each.name not in declared)


def _delete_crons(database: Database, keep: Set[str]) -> None:
    from fibflow.store.cron import crons, delete_cron

    for cron in database.call(crons):
        if cron.source == "resource" and cron.name not in keep:
            with suppress(NotFound):
                database.call(delete_cron, cron.name)


def _put_cron(database: Database, manifests: Manifests, resource: CronTaskResource) -> bool:
    """Whether the cron task is stored; not while nothing has declared its task type."""
    from fibflow.store.cron import CronDeclaration, put_cron

    declaration = CronDeclaration(
        name=resource.name,
        type=manifests.type_of(resource),
        schedule=resource.schedule,
        payload=resource.payload,
        tag=resource.tag,
        options=resource.options,
        missed_run_policy=resource.missed_run_policy,
        concurrency_policy=resource.concurrency_policy,
        pause_on_failure=resource.pause_on_failure,
        suspended=resource.suspended,
    )
    try:
        database.call(put_cron, declaration, source="resource")
    except UnknownTaskType:
        return False
    return True
