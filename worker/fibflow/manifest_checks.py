"""What may be wrong with a manifest, beyond its YAML: its kind, its schema, its texts, and what it names.

The first thing that is wrong is an InvalidManifest, which names the file, the line and the field. Which files there are,
and what becomes of them, is the story of resources.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fibflow import encoding, schemas
from fibflow.errors import InvalidInput, InvalidManifest
from fibflow.resource_values import type_name
from fibflow.schedule import InvalidSchedule, Schedule
from fibflow.yaml_text import Document, Place


def check(document: Document, namespace: str) -> None:
    """Raise InvalidManifest for a resource that is wrong by itself."""
    if not isinstance(document.value, dict):
        raise _refused(document, (), document.value, "is not a resource; write apiVersion, kind, metadata and spec")
    _check_kind(document)
    for place, value in _unstorable(document.value, ()):
        raise _refused(document, place, value, "holds a NUL or a lone surrogate; remove it")
    for fault in schemas.faults(kind(document), document.value)[:1]:
        raise _refused(document, fault.place, fault.value, fault.way_out)
    own = document.value["metadata"].get("namespace", namespace)
    if own != namespace:
        way_out = f"is not the namespace {namespace!r} that is worked on; pass --namespace"
        raise _refused(document, ("metadata", "namespace"), own, way_out)
    _CHECKS[kind(document)](document)


def _check_kind(document: Document) -> None:
    version, given = document.value.get("apiVersion"), document.value.get("kind")
    if version != schemas.API_VERSION:
        raise _refused(document, ("apiVersion",), version, f"is not the version that is known; write {schemas.API_VERSION}")
    if given not in schemas.kinds():
        raise _refused(document, ("kind",), given, f"is not one of {', '.join(schemas.kinds())}")


def kind(document: Document) -> str:
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
    if "worker" in spec:
        if "workerPoolRef" in spec:
            raise _refused(document, ("spec", "worker"), spec["worker"], "stands beside workerPoolRef; keep one of them")
        _check_env(document, ("spec", "worker"), spec["worker"].get("env", []))


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
    _check_env(document, ("spec",), document.value["spec"].get("env", []))


def _check_env(document: Document, above: Place, env: list[dict[str, Any]]) -> None:
    names: set[str] = set()
    for index, entry in enumerate(env):
        place: Place = (*above, "env", index, "name")
        if entry["name"].startswith("FIBFLOW_"):
            raise _refused(document, place, entry["name"], "begins with FIBFLOW_, which fibflow sets itself")
        if entry["name"] in names:
            raise _refused(document, place, entry["name"], "stands twice; keep one")
        names.add(entry["name"])
        if ("value" in entry) == ("valueFrom" in entry):
            raise _refused(document, (*above, "env", index, "value"), entry.get("value"), "give either value or valueFrom")


_CHECKS: dict[str, Callable[[Document], None]] = {
    "TaskType": _check_task_type,
    "CronTask": _check_cron_task,
    "WorkerPool": _check_worker_pool,
}


def check_names(found: list[Document]) -> None:
    """A name stands once for a kind, and so does the name that code uses for a task type."""
    seen: dict[tuple[str, str], Document] = {}
    for document in found:
        claims = [(kind(document), document.value["metadata"]["name"], ("metadata", "name"))]
        if kind(document) == "TaskType":
            claims.append(("task type", type_name(document.value), ("spec", "name")))
        for what, name, place in claims:
            first = seen.setdefault((what, name), document)
            if first is not document:
                way_out = f"names a {what} already, in {first.file}, line {first.line}; give it another name"
                raise _refused(document, place, name, way_out)


def check_pool_refs(found: list[Document]) -> None:
    """A pool that a resource names is one of them."""
    pools = {document.value["metadata"]["name"] for document in found if kind(document) == "WorkerPool"}
    for document in found:
        name = document.value["spec"].get("workerPoolRef", {}).get("name")
        if name is not None and name not in pools:
            known = f"there are {', '.join(sorted(pools))}" if pools else "there is none"
            raise _refused(document, ("spec", "workerPoolRef", "name"), name, f"is not a WorkerPool here; {known}")


def _refused(document: Document, place: Place, value: object, way_out: str) -> InvalidManifest:
    path = schemas.Fault(place, value, way_out).path
    return InvalidManifest(f"{document.file}, line {document.line_of(place)}: {path}", value, way_out)
