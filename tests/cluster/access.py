"""What tests ask of any cluster, ours or another: kubectl, the official client, waiting, a namespace of one's own.

It knows a cluster by its kubeconfig alone. What only our own cluster can do (cut a cable, kill a node, load an image)
is in cluster.py.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

import kubernetes
from kubernetes.config import new_client_from_config

from .waiting import until


class Access:
    """A cluster, by a kubeconfig whose user may do everything; `kubectl` is the command to use."""

    def __init__(self, kubeconfig: Path, kubectl: Sequence[str] = ("kubectl",)) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = tuple(kubectl)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl to its end, with `text` as its input, and return what it printed; a failure says why."""
        command = [*self._kubectl, "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout}")
        return done.stdout

    def apply(self, text: str, namespace: str = "default") -> str:
        """kubectl apply of the objects in `text`, YAML or JSON."""
        return self.kubectl("apply", "--namespace", namespace, "-f", "-", text=text)

    def wait(self, condition: str, *objects: str, namespace: str = "default", seconds: int = 60) -> None:
        """kubectl wait: for `create`, `delete`, `condition=Ready`, `jsonpath={.status.phase}=Running` …"""
        self.kubectl("wait", "--namespace", namespace, f"--for={condition}", f"--timeout={seconds}s", *objects)

    def field(self, path: str, *object_: str, namespace: str = "default") -> str:
        """The field at that path of an object, as text: field(".spec.nodeName", "pod/web")."""
        return self.kubectl("get", "--namespace", namespace, *object_, "-o", f"jsonpath={{{path}}}")

    def install(self, *definitions: Path) -> None:
        """Apply CustomResourceDefinitions; return when their resources are served and explained."""
        for file in definitions:
            self.kubectl("apply", "--server-side", "-f", str(file))
            name = self.field(".metadata.name", "-f", str(file))
            self.wait("condition=Established", f"crd/{name}")
            # The API's description of itself follows a moment later, and kubectl reads that.
            until(partial(self._explains, name), 30, f"{name} is explained")

    def _explains(self, name: str) -> bool:
        try:
            return bool(self.kubectl("explain", name))
        except RuntimeError:
            return False

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A namespace that is deleted at the end with all in it, without waiting for that."""
        self.kubectl("create", "namespace", name)
        # Pods need it, and its controller makes it a moment later.
        self.wait("create", "serviceaccount/default", namespace=name)
        yield name
        self.kubectl("delete", "namespace", name, "--wait=false")

    @cached_property
    def api(self) -> kubernetes.client.ApiClient:
        """The official client, as the kubeconfig's user."""
        client: kubernetes.client.ApiClient = new_client_from_config(str(self.kubeconfig))  # type: ignore[no-untyped-call]
        return client

    @property
    def core(self) -> kubernetes.client.CoreV1Api:
        """The official client's core/v1."""
        return kubernetes.client.CoreV1Api(self.api)
