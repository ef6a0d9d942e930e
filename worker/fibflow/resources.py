"""Resources as files: the YAML that a cluster takes, checked against the same schemas, as values.

    read(path)    one file or the files of a folder, each of one or more documents; a fault is an InvalidManifest
    apply(...)    task types and cron tasks as rows of the database

YAML is `yaml_text`'s business, what may be wrong is `manifest_checks`', the values are in `resource_values`, processes are
`dev`'s. Nothing is stored unless all files are right.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fibflow import yaml_text
from fibflow.errors import InvalidInput, InvalidManifest, NotFound, UnknownTaskType
from fibflow.manifest_checks import check, check_names, check_pool_refs, kind
from fibflow.records import TaskType
from fibflow.resource_values import (
    CronTaskResource,
    Manifests,
    TaskTypeResource,
    WorkerPoolResource,
    cron_task,
    task_type,
    worker_pool,
)
from fibflow.store.address import shown
from fibflow.store.database import Database
from fibflow.store.installation import installed
from fibflow.store.tasktypes import Declaration, declare_types, types

if TYPE_CHECKING:
    from fibflow.store.cron import CronDeclaration

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
    TaskTypes, of which what they said stays in force, `deleted` the cron tasks of earlier CronTasks. `unserved` are task types
    that are bound to none of the pools here, each with its pool; there are none where there is no pool at all.
    """

    task_types: tuple[str, ...]
    cron_tasks: tuple[str, ...]
    waiting: tuple[str, ...]
    left: tuple[str, ...]
    deleted: tuple[str, ...]
    unserved: tuple[tuple[str, str | None], ...]


def files(path: Path) -> list[Path]:
    """A file, or the YAML files of a folder and the folders in it, by name. Raises InvalidManifest if there is none."""
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise InvalidManifest(
                "file", str(path), "does not exist, or is neither a file nor a folder; give a YAML file or a folder of them"
            )
        next(path.iterdir(), None)  # raises for a folder that may not be read, which rglob takes for an empty one
        found = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml") and file.is_file())
    except OSError as error:
        barred = str(error.filename or path)
        raise InvalidManifest("file", barred, f"cannot be read: {error.strerror or error}; name another") from None
    if not found:
        raise InvalidManifest("folder", str(path), "holds no .yaml or .yml file; put manifests there, or name another")
    return found


def read(path: Path, namespace: str = "default") -> Manifests:
    """The resources of a file or a folder. Raises InvalidManifest for the first thing that is wrong."""
    found = [document for file in files(path) for document in yaml_text.documents(file)]
    if not found:
        raise InvalidManifest("manifests", str(path), "hold no resource; write a TaskType, a CronTask or a WorkerPool")
    for document in found:
        check(document, namespace)
    check_names(found)
    check_pool_refs(found)
    return Manifests(
        path if path.is_dir() else path.parent,
        tuple(task_type(document.value) for document in found if kind(document) == "TaskType"),
        tuple(cron_task(document.value) for document in found if kind(document) == "CronTask"),
        tuple(worker_pool(document.value) for document in found if kind(document) == "WorkerPool"),
    )


def apply(database: Database, manifests: Manifests) -> Applied:
    """Store task types and cron tasks; delete the cron tasks of resources that are gone. Repeating it changes nothing.

    Task types stay, for tasks may be of them. Raises what the database raises, and InvalidInput for a database that an
    operator serves: it would take what is not in the manifests for deleted.
    """
    if (operator := database.call(installed)) is not None:
        way_out = f"serves the operator of installation {operator.installation}; use kubectl, or another --database"
        raise InvalidInput("database", shown(database.url), way_out)
    declarations = [_declaration(resource) for resource in manifests.task_types]
    database.call(declare_types, declarations, source="resource")
    deleted = _delete_crons(database, keep={resource.name for resource in manifests.cron_tasks})
    stored = {resource.name: _put_cron(database, manifests, resource) for resource in manifests.cron_tasks}
    stored_types = database.call(types)
    return Applied(
        task_types=tuple(declaration.name for declaration in declarations),
        cron_tasks=tuple(name for name in stored if stored[name]),
        waiting=tuple(name for name in stored if not stored[name]),
        left=_left(stored_types, declared={declaration.name for declaration in declarations}),
        deleted=deleted,
        unserved=_unserved(stored_types, manifests) if manifests.fleets else (),
    )


def _declaration(resource: TaskTypeResource) -> Declaration:
    return Declaration(
        name=resource.type,
        options=resource.options,
        max_concurrent_tasks=resource.per_worker,
        description=resource.description,
        suspended=resource.suspended,
        pool=resource.pool,
    )


def _left(stored: Sequence[TaskType], declared: Set[str]) -> tuple[str, ...]:
    return tuple(each.name for each in stored if each.source == "resource" and each.name not in declared)


def _unserved(stored: Sequence[TaskType], manifests: Manifests) -> tuple[tuple[str, str | None], ...]:
    staffed = {fleet.name for fleet in manifests.fleets if fleet.replicas}
    return tuple((each.name, each.pool) for each in stored if each.pool not in staffed)


def _delete_crons(database: Database, keep: Set[str]) -> tuple[str, ...]:
    from fibflow.store.cron import delete_cron
    from fibflow.store.cron_reading import crons

    gone = tuple(cron.name for cron in database.call(crons) if cron.source == "resource" and cron.name not in keep)
    for name in gone:
        with suppress(NotFound):
            database.call(delete_cron, name)
    return gone


def _put_cron(database: Database, manifests: Manifests, resource: CronTaskResource) -> bool:
    """Whether the cron task is stored; not while nothing has declared its task type."""
    from fibflow.store.cron import put_cron

    try:
        database.call(put_cron, cron_declaration(resource, manifests.type_of(resource)), source="resource")
    except UnknownTaskType:
        return False
    return True


def cron_declaration(resource: CronTaskResource, type: str) -> CronDeclaration:
    """What a CronTask declares, whose task type has this name."""
    from fibflow.store.cron import CronDeclaration

    return CronDeclaration(
        name=resource.name,
        type=type,
        schedule=resource.schedule,
        payload=resource.payload,
        tag=resource.tag,
        options=resource.options,
        missed_run_policy=resource.missed_run_policy,
        concurrency_policy=resource.concurrency_policy,
        pause_on_failure=resource.pause_on_failure,
        suspended=resource.suspended,
    )
