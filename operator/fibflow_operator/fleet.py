"""A fleet: the workers that a WorkerPool asks for, or a TaskType with workers of its own, and how they are called. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fibflow.scaling import Policy
from fibflow.store.synced import Name
from fibflow_operator import names
from fibflow_operator.world import Key, Kind, Resource


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers that a resource asks for, in a WorkerPool's words. `type`: the only one that they run, if it is one."""

    key: Key
    uid: str
    spec: Mapping[str, Any]
    type: str | None = None

    @property
    def pool(self) -> str:
        return names.pool_of(self.key)

    @property
    def place(self) -> Name:
        """Where what is known of its pool is found."""
        return Name(self.key.namespace, self.pool)

    @property
    def deployment(self) -> Name:
        return names.deployment_of(self.key)

    @property
    def path(self) -> str:
        """Where its resource says what it is to be."""
        return "spec" if self.type is None else "spec.worker"

    @property
    def slots(self) -> int:
        return int(self.spec.get("slots", 10))

    @property
    def replicas(self) -> int | None:
        """How many its spec asks for; None where the backlog decides."""
        return None if self._policy == Policy.BACKLOG else int(self.spec.get("replicas", 1))

    @property
    def fixed(self) -> int | None:
        """How many a person asks for; None where load decides, be it by way of an autoscaler."""
        return self.replicas if self._policy == Policy.FIXED else None

    @property
    def _policy(self) -> str:
        return str(self.spec.get("scaling", {}).get("policy", Policy.FIXED))


def fleet_of(resource: Resource) -> Fleet:
    """The fleet of a resource that says something of workers."""
    own = resource.type_name if resource.key.kind is Kind.TASK_TYPE else None
    return Fleet(resource.key, resource.uid, resource.workers or {}, own)
