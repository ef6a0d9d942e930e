"""The names by which a resource and its workers find each other: its pool, its Deployment, and the way back. Pure.

A WorkerPool's pool has its name, the pool of a TaskType with workers of its own is named so that no WorkerPool can be.
"""

from __future__ import annotations

from fibflow.model import OWN_POOL, own_pool
from fibflow.store.synced import Name
from fibflow_operator.world import Key, Kind

SUFFIX = {Kind.WORKER_POOL: "-pool", Kind.TASK_TYPE: "-type"}
"""How the name of a Deployment ends, by the kind of its resource."""


def pool_of(key: Key) -> str:
    """The pool that the workers of a resource claim for and are labelled with."""
    return own_pool(key.name) if key.kind is Kind.TASK_TYPE else key.name


def of_pool(namespace: str, pool: str) -> Key:
    """The resource whose workers belong to a pool."""
    kind = Kind.TASK_TYPE if pool.startswith(OWN_POOL) else Kind.WORKER_POOL
    return Key(kind, namespace, pool.removeprefix(OWN_POOL))


def deployment_of(key: Key) -> Name:
    """The place of a resource's Deployment."""
    return Name(key.namespace, key.name + SUFFIX[key.kind])


def of_deployment(place: Name) -> Key:
    """The resource whose Deployment has this place."""
    kind = Kind.TASK_TYPE if place.name.endswith(SUFFIX[Kind.TASK_TYPE]) else Kind.WORKER_POOL
    return Key(kind, place.namespace, place.name.removesuffix(SUFFIX[kind]))
