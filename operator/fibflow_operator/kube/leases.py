"""The Lease by which operators agree who leads: read, made and replaced, each write against the version that was read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fibflow_operator.kube.api import Api, ApiRefused, understood

CONFLICT = 409
REQUEST = 3.0
"""Seconds that a call may take, so that a slow server does not hold up the next try."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease as it was read. `holder` is empty when it was given back; `version` is the API server's."""

    holder: str
    transitions: int
    renewed: str
    version: str
    acquired: str = ""


class Leases:
    """The Lease of one name."""

    def __init__(self, api: Api, namespace: str, name: str, duration: int) -> None:
        self._api = api
        self._name = name
        self._namespace = namespace
        self._duration = duration
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    def read(self) -> Lease | None:
        """The Lease; None if there is none. Raises ApiFailure."""
        try:
            return self._lease(self._api.call("GET", f"{self._path}/{self._name}", timeout=REQUEST))
        except ApiRefused as refused:
            if refused.status == 404:
                return None
            raise

    def write(self, before: Lease | None, holder: str) -> Lease | None:
        """Hold it, or give it back (no holder); None if another was faster. Raises ApiFailure."""
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changes_hands = before is not None and holder not in ("", before.holder)
        transitions = (before.transitions if before else 0) + (1 if changes_hands else 0)
        acquired = before.acquired if before and before.acquired and not changes_hands else moment
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": self._duration,
            "leaseTransitions": transitions,
            "acquireTime": acquired,
            "renewTime": moment,
        }
        try:
            return self._lease(self._send(before, spec))
        except ApiRefused as refused:
            if refused.status in (404, CONFLICT):
                return None
            raise

    def _send(self, before: Lease | None, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        if before is None:
            return self._api.call("POST", self._path, body=body, timeout=REQUEST)
        metadata["resourceVersion"] = before.version
        return self._api.call("PUT", f"{self._path}/{self._name}", body=body, timeout=REQUEST)

    def _lease(self, raw: dict[str, Any]) -> Lease:
        with understood(self._path):
            return _lease(raw)


def _lease(raw: dict[str, Any]) -> Lease:
    spec = raw.get("spec") or {}
    return Lease(
        holder=spec.get("holderIdentity") or "",
        transitions=spec.get("leaseTransitions") or 0,
        renewed=spec.get("renewTime") or "",
        version=raw["metadata"]["resourceVersion"],
        acquired=spec.get("acquireTime") or "",
    )
