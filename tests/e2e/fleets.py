"""Pools of real workers on the cluster: an application whose tasks do what their payload says, in an image of its own."""

import json
from pathlib import Path
from typing import Any

from cluster import images
from cluster.images import Image
from e2e.planes import ROOT, Plane, resource, task_type

TEXTS = ("Dockerfile", ".dockerignore", "LICENSE", "README.md", "constraints.txt", "pyproject.toml", "tools/requirements.py")
PARTS = (*TEXTS, "crds", "worker", "operator")
"""What the images are made of."""
APP = Path(__file__).parent / "fleet"


def base() -> Image:
    """The image that applications extend."""
    return images.of(ROOT, "fibflow-worker", "worker", parts=PARTS)


def application() -> Image:
    """The application of these tests."""
    return images.of(APP, "fleet", parents={"fibflow-worker": base()})


def secret(url: str, name: str = "fibflow-database", key: str = "dsn") -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: url}})


def pool(image: str, name: str = "pool", /, **spec: Any) -> dict[str, Any]:
    """A WorkerPool of the application that is quick to start and to stop."""
    plain = {"app": "fleet:app", "image": image, "slots": 2, "replicas": 1, "drainSeconds": 5, "imagePullPolicy": "Never"}
    return resource("WorkerPool", name, **(plain | spec))


def bound(pool: str = "pool", name: str = "work", /, **spec: Any) -> dict[str, Any]:
    """The type of the application's tasks, bound to a pool."""
    return task_type(name, workerPoolRef={"name": pool}, **({"timeoutSeconds": 600} | spec))


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod says that it is Ready."""
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def container_id(pod: dict[str, Any]) -> str:
    """The id of a pod's worker, as its node's containerd knows it."""
    return str(pod["status"]["containerStatuses"][0]["containerID"]).rpartition("/")[2]


def pods_of(plane: Plane, pool: str = "pool") -> list[dict[str, Any]]:
    """The pool's pods that are not on their way out."""
    said = plane.cluster.kubectl("get", "pods", "-n", plane.namespace, "-l", f"fibflow.dev/pool={pool}", "-o", "json")
    return [pod for pod in json.loads(said)["items"] if "deletionTimestamp" not in pod["metadata"]]
