"""What the Deployment of a fleet should be, and the disruption budget beside it: the objects as they are sent. Pure.

A Deployment is made with no replicas and next to nothing in it (`seed`), then given its template by server-side apply: a
field that a POST has said stays when an apply drops it. When which is due is decided in `steps`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fibflow_operator.fleet import Fleet
from fibflow_operator.pods import WORKER
from fibflow_operator.workload_cache import DIGEST, POOL
from fibflow_operator.world import GROUP, VERSION

FLUSH_SECONDS = 15
"""How long a worker may take after its drain to write down what it interrupted, and a little more."""
PORT = 8080
TMP = "fibflow-tmp"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
AS_THEY_ARE = (
    "serviceAccountName",
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "imagePullSecrets",
    "priorityClassName",
)
DOWNWARD = {
    "FIBFLOW_POD_ID": "metadata.name",
    "FIBFLOW_POD_UID": "metadata.uid",
    "FIBFLOW_NAMESPACE": "metadata.namespace",
    "FIBFLOW_NODE": "spec.nodeName",
}


def seed(fleet: Fleet) -> dict[str, Any]:
    """What is created: no replicas, and nothing that the template may drop one day."""
    whole = template(fleet)
    pod = whole["spec"]["template"]
    container = {name: pod["spec"]["containers"][0][name] for name in ("name", "image")}
    spec = {"replicas": 0, "selector": whole["spec"]["selector"]}
    spec["template"] = {"metadata": {"labels": _own_labels(fleet)}, "spec": {"containers": [container]}}
    return {**whole, "spec": spec}


def applied_form(fleet: Fleet) -> dict[str, Any]:
    """What is applied of the Deployment: all but replicas, and the digest of it."""
    return _with_digest(template(fleet))


def applied_budget(fleet: Fleet) -> dict[str, Any]:
    """What is made or applied of the PodDisruptionBudget: all, and the digest of it."""
    return _with_digest(budget(fleet))


def _with_digest(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {**wanted, "metadata": {**wanted["metadata"], "annotations": {DIGEST: digest_of(wanted)}}}


def budget(fleet: Fleet) -> dict[str, Any]:
    """The PodDisruptionBudget: whoever drains nodes takes one worker of a pool at a time, and what is not ready any time."""
    selector = {"matchLabels": {POOL: fleet.pool}}
    spec = {"maxUnavailable": 1, "selector": selector, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _metadata(fleet), "spec": spec}


def digest_of(wanted: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]


def template(fleet: Fleet) -> dict[str, Any]:
    """The Deployment, without replicas."""
    spec = fleet.spec
    pod: dict[str, Any] = {"metadata": {"labels": {**spec.get("labels", {}), **_own_labels(fleet)}}, "spec": _pod(fleet)}
    if spec.get("annotations"):
        pod["metadata"]["annotations"] = dict(spec["annotations"])
    rolling = {name: value for name, value in spec.get("rollout", {}).items()}
    strategy = {"type": "RollingUpdate", **({"rollingUpdate": rolling} if rolling else {})}
    wanted = {"selector": {"matchLabels": {POOL: fleet.pool}}, "strategy": strategy, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(fleet), "spec": wanted}


def _metadata(fleet: Fleet) -> dict[str, Any]:
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": str(fleet.key.kind),
        "name": fleet.key.name,
        "uid": fleet.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    place = {"name": fleet.deployment.name, "namespace": fleet.key.namespace}
    return {**place, "labels": _own_labels(fleet), "ownerReferences": [owner]}


def _own_labels(fleet: Fleet) -> dict[str, str]:
    return {"app.kubernetes.io/name": "fibflow-worker", "app.kubernetes.io/managed-by": "fibflow", POOL: fleet.pool}


def _pod(fleet: Fleet) -> dict[str, Any]:
    spec = fleet.spec
    own_tmp = all(mount.get("mountPath") != "/tmp" for mount in spec.get("volumeMounts", ()))
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **spec.get("podSecurityContext", {})}
    volumes = [*([{"name": TMP, "emptyDir": {}}] if own_tmp else []), *spec.get("volumes", ())]
    return {
        "containers": [_container(fleet, own_tmp)],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        "terminationGracePeriodSeconds": int(spec.get("drainSeconds", 30)) + FLUSH_SECONDS,
        **({"volumes": volumes} if volumes else {}),
        **{name: spec[name] for name in AS_THEY_ARE if spec.get(name)},
    }


def _container(fleet: Fleet, own_tmp: bool) -> dict[str, Any]:
    spec = fleet.spec
    mounts = [*([{"name": TMP, "mountPath": "/tmp"}] if own_tmp else []), *spec.get("volumeMounts", ())]
    return {
        "name": WORKER,
        "image": spec.get("image", ""),
        "args": [str(spec["app"]), "--slots", str(fleet.slots), "--drain", str(spec.get("drainSeconds", 30))],
        "env": [*_own_env(fleet), *(_variable(each) for each in spec.get("env", ()))],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 1},
        # Its own grace period: a process that stands still drains nothing.
        "livenessProbe": {
            **_probe("/livez"),
            "periodSeconds": 5,
            "initialDelaySeconds": 10,
            "terminationGracePeriodSeconds": 5,
        },
        "securityContext": RESTRICTED,
        # What a worker says last becomes the pool's condition.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **({"volumeMounts": mounts} if mounts else {}),
        **{name: spec[name] for name in ("resources", "envFrom", "imagePullPolicy") if spec.get(name)},
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}, "timeoutSeconds": 2, "failureThreshold": 3}


def _own_env(fleet: Fleet) -> list[dict[str, Any]]:
    secret = {"name": "fibflow-database", "key": "dsn", **fleet.spec.get("databaseSecretRef", {})}
    downward = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in DOWNWARD.items()]
    database = {"name": "FIBFLOW_DATABASE", "valueFrom": {"secretKeyRef": secret}}
    plain = {"FIBFLOW_POOL": fleet.pool, "FIBFLOW_PORT": str(PORT)}
    plain |= {} if fleet.type is None else {"FIBFLOW_TYPE": fleet.type}
    return [*downward, database, *({"name": name, "value": value} for name, value in plain.items())]


def _variable(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The API server leaves an empty value out, so we do."""
    return {name: value for name, value in entry.items() if value != ""}
