"""Pods for the tests of the cluster, as manifests: small Python programs in the probe's image."""

import json
from typing import Any

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def program(image: str, text: str) -> dict[str, Any]:
    """A container that runs a Python program, under restricted pod security."""
    return {"name": "program", "image": image, "command": ["python", "-uc", text], "securityContext": RESTRICTED}


def pod(name: str, image: str, text: str, **spec: object) -> str:
    """A pod that runs a Python program once."""
    # Python without a handler ignores SIGTERM as a container's first process; nobody here wants to wait for it.
    settings = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1} | spec
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [program(image, text)]} | settings,
        }
    )


def service(name: str, port: int) -> str:
    """A service for the pods of that name."""
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": port}]}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})


def web(name: str, image: str, replicas: int) -> str:
    """A Deployment of web servers, spread over the nodes."""
    server = program(image, "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)")
    server |= {"ports": [{"containerPort": 8000}], "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}}
    labels = {"app": name}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    spread |= {"labelSelector": {"matchLabels": labels}, "matchLabelKeys": ["pod-template-hash"]}
    pods = {"containers": [server], "terminationGracePeriodSeconds": 1, "topologySpreadConstraints": [spread]}
    template = {"metadata": {"labels": labels}, "spec": pods}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})
