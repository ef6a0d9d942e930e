"""Resources as values: what a TaskType, a CronTask and a WorkerPool say, once their file has passed the checks.

For `resources`, which reads and applies them. Defaults that the schemas state are filled in here; a field that inherits
stays None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fibflow.model import ConcurrencyPolicy, Json, MissedRunPolicy, Options, own_pool


@dataclass(frozen=True, slots=True)
class TaskTypeResource:
    """A TaskType. `type` is the name that the code uses; `workers` are those that it has for itself."""

    name: str
    type: str
    description: str | None
    options: Options
    per_worker: int | None
    suspended: bool
    pool: str | None
    workers: WorkerPoolResource | None = None


@dataclass(frozen=True, slots=True)
class CronTaskResource:
    """A CronTask. `type_ref` names a TaskType, or a task type that code declares."""

    name: str
    type_ref: str
    schedule: str
    payload: Json
    tag: str | None
    options: Options
    concurrency_policy: ConcurrencyPolicy
    missed_run_policy: MissedRunPolicy
    suspended: bool
    pause_on_failure: bool


@dataclass(frozen=True, slots=True)
class WorkerPoolResource:
    """A WorkerPool: `replicas` workers that run `app`, of it the `type` alone if there is one. `drain` in seconds."""

    name: str
    app: str
    slots: int
    replicas: int
    drain: int
    env: tuple[tuple[str, str], ...]
    image: str | None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Manifests:
    """What some files declare together. `folder` holds them."""

    folder: Path
    task_types: tuple[TaskTypeResource, ...]
    cron_tasks: tuple[CronTaskResource, ...]
    worker_pools: tuple[WorkerPoolResource, ...]

    @property
    def fleets(self) -> tuple[WorkerPoolResource, ...]:
        """All workers: those of pools, and those that types have for themselves."""
        own = (resource.workers for resource in self.task_types)
        return (*self.worker_pools, *(workers for workers in own if workers is not None))

    def type_of(self, cron_task: CronTaskResource) -> str:
        """The name of the task type that a cron task runs."""
        named = {resource.name: resource.type for resource in self.task_types}
        return named.get(cron_task.type_ref, cron_task.type_ref)


def type_name(resource: Mapping[str, Any]) -> str:
    return str(resource["spec"].get("name", resource["metadata"]["name"]))


def task_type(resource: Mapping[str, Any]) -> TaskTypeResource:
    spec, name = resource["spec"], resource["metadata"]["name"]
    own = spec.get("worker")
    return TaskTypeResource(
        name=name,
        type=type_name(resource),
        description=spec.get("description"),
        options=_options(spec),
        per_worker=_whole(spec.get("limits", {}).get("perWorker")),
        suspended=spec.get("suspend", False),
        pool=spec.get("workerPoolRef", {}).get("name") if own is None else own_pool(name),
        workers=None if own is None else _workers(own_pool(name), own, type_name(resource)),
    )


def cron_task(resource: Mapping[str, Any]) -> CronTaskResource:
    spec = resource["spec"]
    return CronTaskResource(
        name=resource["metadata"]["name"],
        type_ref=spec["taskTypeRef"]["name"],
        schedule=spec["schedule"],
        payload=spec.get("payload", {}),
        tag=spec.get("tag"),
        options=_options(spec),
        concurrency_policy=ConcurrencyPolicy(spec.get("concurrencyPolicy", ConcurrencyPolicy.FORBID)),
        missed_run_policy=MissedRunPolicy(spec.get("missedRunPolicy", MissedRunPolicy.RUN_LATEST)),
        suspended=spec.get("suspend", False),
        pause_on_failure=spec.get("pauseOnFailure", True),
    )


def worker_pool(resource: Mapping[str, Any]) -> WorkerPoolResource:
    return _workers(resource["metadata"]["name"], resource["spec"])


def _workers(name: str, spec: Mapping[str, Any], type: str | None = None) -> WorkerPoolResource:
    return WorkerPoolResource(
        name=name,
        app=spec["app"],
        slots=int(spec.get("slots", 10)),
        replicas=int(spec.get("replicas", 1)),
        drain=int(spec.get("drainSeconds", 30)),
        env=tuple((entry["name"], entry["value"]) for entry in spec.get("env", []) if "value" in entry),
        image=spec.get("image"),
        type=type,
    )


def _options(spec: Mapping[str, Any]) -> Options:
    retry = spec.get("retry", {})
    return Options(
        timeout=_whole(spec.get("timeoutSeconds")),
        max_attempts=_whole(retry.get("maxAttempts")),
        backoff=_whole(retry.get("backoffSeconds")),
        backoff_factor=_whole(retry.get("backoffFactor")),
        max_backoff=_whole(retry.get("maxBackoffSeconds")),
        priority=_whole(spec.get("priority")),
    )


def _whole(number: int | float | None) -> int | None:
    """A whole number may be written 5.0."""
    return None if number is None else int(number)
