"""An API server as far as Helm asks one while it renders: it knows some kinds, and has some objects."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

NAMESPACED = {"Secret", "ServiceAccount", "Service", "Deployment", "Job", "Pod", "Role", "RoleBinding", "PodDisruptionBudget"}
MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


def namespace(name: str) -> dict[str, Any]:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def secret(name: str, where: str, *keys: str) -> dict[str, Any]:
    """A Secret with such keys."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": where},
        "data": dict.fromkeys(keys, "eA=="),
    }


@contextmanager
def serving(objects: Sequence[dict[str, Any]], kinds: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Its address, while it answers for these objects, and for kinds by their apiVersion and name."""
    answers = {**_discovery({("v1", "Namespace"), ("v1", "Secret"), *kinds}), **{_path(each): each for each in objects}}

    class Asked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            text = json.dumps(found or MISSING).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Asked) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _discovery(kinds: set[tuple[str, str]]) -> dict[str, Any]:
    """What is asked first: which groups there are, and which kinds are in them."""
    versions = sorted({version for version, _ in kinds} - {"v1"})
    named = [{"groupVersion": version, "version": version.partition("/")[2]} for version in versions]
    groups = [{"name": each["groupVersion"].partition("/")[0], "versions": [each], "preferredVersion": each} for each in named]
    lists = {
        ("/api/v1" if version == "v1" else f"/apis/{version}"): {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": [
                {"name": _plural(kind), "kind": kind, "namespaced": kind in NAMESPACED, "verbs": ["get"]}
                for of, kind in sorted(kinds)
                if of == version
            ],
        }
        for version in ("v1", *versions)
    }
    heads = {
        "/version": {"gitVersion": "v1.34.0", "major": "1", "minor": "34"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
    }
    return {**heads, "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}, **lists}


def _plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")


def _path(each: dict[str, Any]) -> str:
    named = each["metadata"]
    where = f"namespaces/{named['namespace']}/" if "namespace" in named else ""
    return f"/api/v1/{where}{_plural(each['kind'])}/{named['name']}"
