"""An in-memory stand-in for the API server: it keeps resources, versions and events, and checks nothing.

What Kubernetes decides is tried on a real one (tests/e2e). This one is for orders of events that no real one can be made
to send on demand.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controller.ground import Ground
from fibflow_operator.kube.resources import Listed
from fibflow_operator.world import Key, Kind, Resource, seen


class Shelf(Ground):
    """The resources of one namespace, and every event that there ever was."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self.namespace = namespace
        self.events: list[tuple[Resource, bool]] = []
        self.statuses_written = 0
        self.told: list[tuple[str, str]] = []
        self._stored: dict[Key, dict[str, Any]] = {}
        self._version = 0

    def put(self, kind: Kind, name: str, spec: Mapping[str, Any], created: str | None = None) -> None:
        """Create or change; `created`: when, if not after all others."""
        key = Key(kind, self.namespace, name)
        before = self._stored.get(key)
        version = self._next()
        metadata: dict[str, Any] = (
            before["metadata"]
            if before
            else {"uid": f"u{version}", "creationTimestamp": created or f"{version:09}", "generation": 0}
        )
        metadata = metadata | {"name": name, "namespace": self.namespace, "generation": metadata["generation"] + 1}
        self._store(key, {"metadata": metadata, "spec": dict(spec), "status": before["status"] if before else {}}, version)

    def delete(self, kind: Kind, name: str) -> None:
        """Delete, if it is there."""
        gone = self._stored.pop(Key(kind, self.namespace, name), None)
        if gone is not None:
            metadata = gone["metadata"] | {"resourceVersion": str(self._next())}
            self.events.append((seen({**gone, "kind": str(kind), "metadata": metadata}), True))

    def copy_to(self, other: "Shelf") -> None:
        """The same resources, in the same order of age, without their statuses."""
        for key, raw in sorted(self._stored.items(), key=lambda item: item[1]["metadata"]["creationTimestamp"]):
            other.put(key.kind, key.name, raw["spec"])

    async def list_all(self, kind: Kind, namespace: str | None, some: Callable[[Sequence[Resource]], None]) -> Listed:
        found = [self._seen(key) for key in self._stored if key.kind is kind]
        return Listed(self._version, found)

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource | None:
        raw = self._stored.get(resource.key)
        if raw is None or raw["metadata"]["uid"] != resource.uid:
            return None
        self.statuses_written += 1
        removed = resource.status.keys() - status.keys()  # as a merge patch does: what the writer did not know of stays
        kept = {name: value for name, value in raw["status"].items() if name not in removed}
        self._store(resource.key, raw | {"status": kept | dict(status)}, self._next())
        return self._seen(resource.key)

    def edit_status(self, kind: Kind, name: str, **values: Any) -> None:
        """Somebody writes these into a status."""
        key = Key(kind, self.namespace, name)
        raw = self._stored[key]
        self._store(key, raw | {"status": raw["status"] | values}, self._next())

    async def tell(self, resource: Resource, reason: str, message: str, warning: bool) -> None:
        self.told.append((resource.key.name, reason))

    def status(self, kind: Kind, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._stored[Key(kind, self.namespace, name)]["status"]
        return found

    def _store(self, key: Key, raw: dict[str, Any], version: int) -> None:
        self._stored[key] = raw | {"metadata": raw["metadata"] | {"resourceVersion": str(version)}}
        self.events.append((self._seen(key), False))

    def _seen(self, key: Key) -> Resource:
        return seen({"kind": str(key.kind), **self._stored[key]})

    def _next(self) -> int:
        self._version += 1
        return self._version
