"""What is known of the resources: the newest version that was seen of each, from events and from complete lists.

A watch may repeat, be late or leave things out, so nothing is believed for its order of arrival: a version older than
the one that is known changes nothing, and a deletion is remembered, so that a late event does not bring a resource back.
That a resource is gone is concluded from its deletion, or from a complete list of its namespace that lacks it.

It asks nobody and stores nothing elsewhere; what should follow is decided in `plan`.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from fibflow.store.synced import Name

GROUP, VERSION = "fibflow.dev", "v1alpha1"
NONE: frozenset[Key] = frozenset()
REMEMBERED = 20_000
"""Deletions that are remembered."""


class Kind(StrEnum):
    """The kinds of resources, in the order in which they are needed: a type may name a pool, a cron task names a type."""

    WORKER_POOL = "WorkerPool"
    TASK_TYPE = "TaskType"
    CRON_TASK = "CronTask"

    @property
    def plural(self) -> str:
        return f"{self.lower()}s"


class Key(NamedTuple):
    """A resource's identity; never its uid."""

    kind: Kind
    namespace: str
    name: str

    @property
    def place(self) -> Name:
        return Name(self.namespace, self.name)


def in_order(keys: Iterable[Key]) -> list[Key]:
    """Those first that others may need."""
    places = {kind: place for place, kind in enumerate(Kind)}
    return sorted(keys, key=lambda key: places[key.kind])


class Edition(NamedTuple):
    """One spec of one resource."""

    uid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as it was seen. `spec` and `status` are as the API server gave them, to be read with care."""

    key: Key
    uid: str
    version: int
    generation: int
    created: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def edition(self) -> Edition:
        """Which spec it is: a resource that was made anew, or changed, has another."""
        return Edition(self.uid, self.generation)

    @property
    def type_name(self) -> str:
        """Of a TaskType: the name that code uses."""
        return str(self.spec.get("name", self.key.name))

    @property
    def reference(self) -> str | None:
        """What it names: a CronTask its TaskType, a TaskType its WorkerPool."""
        field = {Kind.CRON_TASK: "taskTypeRef", Kind.TASK_TYPE: "workerPoolRef"}.get(self.key.kind)
        reference = self.spec.get(field) if field else None
        return str(reference.get("name")) if isinstance(reference, Mapping) else None

    @property
    def workers(self) -> Mapping[str, Any] | None:
        """What it says of workers: a WorkerPool all that it says, a TaskType `worker`, if it has any of its own."""
        if self.key.kind is Kind.WORKER_POOL:
            return self.spec
        own = self.spec.get("worker") if self.key.kind is Kind.TASK_TYPE else None
        return own if isinstance(own, Mapping) else None


def seen(raw: Mapping[str, Any]) -> Resource:
    """A resource from the API's JSON."""
    metadata = raw["metadata"]
    key = Key(Kind(raw["kind"]), metadata["namespace"], metadata["name"])
    return Resource(
        key=key,
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        generation=int(metadata.get("generation", 0)),
        created=str(metadata.get("creationTimestamp", "")),
        spec=_object(raw.get("spec")),
        status=_object(raw.get("status")),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class World:
    """The resources of the namespaces that are watched, for as long as they are. Not for several threads."""

    def __init__(self) -> None:
        self._resources: dict[Key, Resource] = {}
        self._gone: OrderedDict[Key, int] = OrderedDict()
        self._complete: set[tuple[Kind, str | None]] = set()
        self._named: defaultdict[tuple[Kind, str, str], set[Key]] = defaultdict(set)
        self._claiming: defaultdict[Name, set[Key]] = defaultdict(set)
        self._with_workers: set[Key] = set()
        self._telling: dict[Key, Mapping[str, Any]] = {}

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: Key) -> Resource | None:
        """The resource; None if it is not there, as far as is known."""
        return self._resources.get(key)

    def keys(self, kind: Kind) -> Iterator[Key]:
        """All of a kind."""
        return (key for key in self._resources if key.kind is kind)

    def with_workers(self) -> list[Key]:
        """Those that say something of workers."""
        return list(self._with_workers)

    def is_gone(self, key: Key) -> bool:
        """Whether it is known that there is no such resource, which is more than never to have seen it."""
        if key in self._resources:
            return False
        return key in self._gone or self.is_complete(key)

    def is_complete(self, key: Key) -> bool:
        """Whether the resources of its kind and namespace are all known."""
        return bool({(key.kind, None), (key.kind, key.namespace)} & self._complete)

    def claimants(self, namespace: str, type_name: str) -> list[Key]:
        """The TaskTypes that claim a name, the oldest first; of the same second, by their own names."""
        claiming = (self._resources[key] for key in self._claiming.get(Name(namespace, type_name), NONE))
        return [each.key for each in sorted(claiming, key=lambda each: (each.created, each.key))]

    def dependents(self, resource: Resource) -> set[Key]:
        """What may be decided otherwise once this resource changes."""
        kind, namespace, name = resource.key
        found: set[Key] = set()
        if kind is Kind.TASK_TYPE:
            found |= self._claiming.get(Name(namespace, resource.type_name), NONE)
            found |= self._named.get((Kind.CRON_TASK, namespace, name), NONE)
            found |= self._named.get((Kind.CRON_TASK, namespace, resource.type_name), NONE)
        if kind is Kind.WORKER_POOL:
            found |= self._named.get((Kind.TASK_TYPE, namespace, name), NONE)
        return found - {resource.key}

    # ── being told ────────────────────────────────────────────────────────────────────────────────────────────

    def see(self, resource: Resource) -> set[Key]:
        """A resource was seen; what is to be looked at again."""
        known = self._resources.get(resource.key)
        if resource.version <= max(known.version if known else 0, self._gone.get(resource.key, 0)):
            return set()
        if known is not None and self._says_nothing_new(known, resource):
            self._put(resource)
            return set()
        touched = {resource.key} | self._around(known, resource)
        self._put(resource)
        return touched | self._around(known, resource)

    @contextmanager
    def telling(self, key: Key, status: Mapping[str, Any]) -> Iterator[None]:
        """While the block gives a resource this status, to see it is no news: an event may come before the answer."""
        self._telling[key] = status
        try:
            yield
        finally:
            del self._telling[key]

    def _says_nothing_new(self, known: Resource, resource: Resource) -> bool:
        """Whether spec and status are those that were known, or are being told; of the rest, as labels, nothing is made."""
        return known.edition == resource.edition and resource.status == self._telling.get(resource.key, known.status)

    def see_deletion(self, resource: Resource) -> set[Key]:
        """A resource was seen to be deleted, in this last version; what is to be looked at again."""
        known = self._resources.get(resource.key)
        if known is not None and known.version > resource.version:
            return set()  # it was made anew since
        self._remember(resource.key, resource.version)
        self._drop(resource.key)
        return {resource.key} | (self.dependents(known) if known else set())

    def see_all(self, kind: Kind, namespace: str | None, version: int, resources: Iterable[Resource]) -> set[Key]:
        """A complete list was read, as of this version; what is to be looked at again."""
        touched: set[Key] = set()
        listed = set()
        for resource in resources:
            listed.add(resource.key)
            touched |= self.see(resource)
        for key in list(self.keys(kind)):
            known = self._resources[key]
            inside = namespace in (None, key.namespace)
            if inside and key not in listed and known.version <= version:
                self._remember(key, version)  # whatever is older is of one that is gone
                self._drop(key)
                touched |= {key} | self.dependents(known)
        self._complete.add((kind, namespace))
        return touched

    def _around(self, known: Resource | None, resource: Resource) -> set[Key]:
        """Others are touched only if there is a new resource, or another spec."""
        if known is not None and known.edition == resource.edition:
            return set()
        return self.dependents(resource) | (self.dependents(known) if known else set())

    def _put(self, resource: Resource) -> None:
        self._drop(resource.key)
        self._gone.pop(resource.key, None)
        self._resources[resource.key] = resource
        for index, name in self._entries(resource):
            index[name].add(resource.key)
        if resource.workers is not None:
            self._with_workers.add(resource.key)

    def _drop(self, key: Key) -> None:
        self._with_workers.discard(key)
        if (known := self._resources.pop(key, None)) is not None:
            for index, name in self._entries(known):
                index[name].discard(key)
                if not index[name]:
                    del index[name]  # names come and go for as long as a leader leads

    def _entries(self, resource: Resource) -> list[tuple[Any, Any]]:
        """Under which name of which index it is found."""
        kind, namespace, _ = resource.key
        found: list[tuple[Any, Any]] = []
        if resource.reference is not None:
            found.append((self._named, (kind, namespace, resource.reference)))
        if kind is Kind.TASK_TYPE:
            found.append((self._claiming, Name(namespace, resource.type_name)))
        return found

    def _remember(self, key: Key, version: int) -> None:
        self._gone[key] = max(version, self._gone.pop(key, 0))
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
