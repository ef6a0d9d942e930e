"""Our resources at the API server: whole lists, statuses, and the Events that people read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fibflow_operator.kube.api import Api, ApiRefused, understood
from fibflow_operator.kube.lists import pages
from fibflow_operator.world import GROUP, VERSION, Kind, Resource, seen


class Listed(NamedTuple):
    """All resources of a kind, as of a version."""

    version: int
    resources: list[Resource]


def list_all(api: Api, kind: Kind, namespace: str | None, some: Callable[[Sequence[Resource]], None]) -> Listed:
    """Every resource of a kind, of one namespace or of all; `some` is called with those of each page. Raises ApiFailure."""
    found: list[Resource] = []
    version, path = 0, _path(kind, namespace)
    for page in pages(api, path, {}):
        version = page.version
        with understood(path):
            resources = [seen({"kind": str(kind), **item}) for item in page.items]
        some(resources)
        found += resources
    return Listed(version, found)


def write_status(api: Api, resource: Resource, status: Mapping[str, Any]) -> Resource | None:
    """Give a resource this status; the resource as it is now, None if it is gone. Raises ApiFailure."""
    removed = {name: None for name in resource.status if name not in status}
    # With the uid, the status of a resource that was made anew is left alone.
    body = {"metadata": {"uid": resource.uid}, "status": {**removed, **status}}
    kind, namespace, name = resource.key
    try:
        return seen({"kind": str(kind), **api.call("PATCH", f"{_path(kind, namespace)}/{name}/status", body=body)})
    except ApiRefused as refused:
        made_anew = refused.status == 409 and "Precondition failed: UID" in str(refused)
        if refused.status == 404 or made_anew:
            return None
        raise


def tell(api: Api, resource: Resource, reason: str, message: str, warning: bool, reporter: str) -> None:
    """Write an Event about a resource. Raises ApiFailure."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = resource.key
    about = {"kind": str(key.kind), "namespace": key.namespace, "name": key.name, "uid": resource.uid}
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{key.name}.", "namespace": key.namespace},
        "involvedObject": {"apiVersion": f"{GROUP}/{VERSION}", **about},
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "source": {"component": "fibflow-operator", "host": reporter},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
    api.call("POST", f"/api/v1/namespaces/{key.namespace}/events", body=event)


def _path(kind: Kind, namespace: str | None) -> str:
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{inside}/{kind.plural}"
