"""The cluster: a control plane, its nodes and a database, started and stopped as one.

Everything of it is in one folder and in the namespaces of its machines; `stop` ends the machines, takes the folder away
and leaves nothing. A second cluster in another folder does not meet it.
"""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import images, network, postgres, programs
from .access import Access
from .control import MASTERS, ControlPlane
from .machine import kill_all
from .node import Node


class Cluster(Access):
    """The cluster in `folder`, of so many nodes; with a lifeline it ends when this process does, however that comes about."""

    def __init__(self, folder: Path, nodes: int = 2, lifeline: bool = False) -> None:
        self.folder = folder.resolve()
        self._on_lifeline = lifeline
        self.commands = self.folder / "bin"
        self.control = ControlPlane(self.folder / "control")
        self.nodes = [Node(number, self.folder / f"node{number}", self.control) for number in range(1, nodes + 1)]
        # What kubectl remembers of this cluster must go with it: another may have its port one day.
        kubectl = (str(self.commands / "kubectl"), f"--cache-dir={self.folder}/kubectl")
        super().__init__(self.folder / "kubeconfig", kubectl)
        self.postgres = postgres.Postgres(self.control.machine, self.folder / "postgres", _postgres_programs())

    def start(self, postgres_settings: dict[str, str] | None = None) -> None:
        """Start it afresh; return when its nodes are Ready. What a former one in the folder left is removed first."""
        remove(self.folder)
        programs.link(self.commands)
        if self._on_lifeline:
            self.control.lifeline, self._held = os.pipe()
        try:
            self._start(postgres_settings)
        except BaseException as failure:
            failure.add_note(self._last_words())
            self.stop()
            raise

    def stop(self) -> None:
        """End it; nothing is left."""
        remove(self.folder)
        if self.control.lifeline:
            os.close(self.control.lifeline)
            os.close(self._held)
            self.control.lifeline = None

    def load_image(self, folder: Path, name: str) -> str:
        """Build the image of a folder with a Dockerfile, give it to every node, and return its reference."""
        return self.give(images.of(folder, name))

    def give(self, image: images.Image) -> str:
        """Give every node an image that was built, and return its reference."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda node: node.import_image(image.archive), self.nodes))
        return image.reference

    def node_of(self, pod: str, namespace: str = "default") -> Node:
        """The node that a pod runs on."""
        name = self.field(".spec.nodeName", f"pod/{pod}", namespace=namespace)
        return next(node for node in self.nodes if node.name == name)

    def container_of(self, pod: str, namespace: str = "default") -> str:
        """The id of a pod's first container, as its node's containerd knows it."""
        return self.field(".status.containerStatuses[0].containerID", f"pod/{pod}", namespace=namespace).rpartition("/")[2]

    def _start(self, postgres_settings: dict[str, str] | None) -> None:
        self.control.start()
        self.api_port = self.control.relay("api", network.API)
        server = f"https://127.0.0.1:{self.api_port}"
        self.control.authority.kubeconfig(self.kubeconfig, server, "admin", MASTERS)
        for node in self.nodes:
            node.start()
            node.import_image(images.pause())
        self.postgres.start(postgres_settings)
        self.postgres_port = self.control.relay("postgres", network.DATABASE)
        names = [f"node/{node.name}" for node in self.nodes]
        self.wait("create", *names)
        self.wait("condition=Ready", *names)
        self.wait("create", "serviceaccount/default")  # without it no pod is accepted

    def _last_words(self) -> str:
        """The end of each daemon's log, for whoever has to find out why it did not start."""
        logs = sorted(self.folder.glob("*/log/*.log"))
        return "\n".join(f"--- {log.relative_to(self.folder)}\n{log.read_text()[-500:]}" for log in logs)


def remove(folder: Path) -> None:
    """End the machines of the cluster in `folder` and remove it; also one that another process started."""
    kill_all(folder.resolve())
    if folder.exists():
        shutil.rmtree(folder)


def _postgres_programs() -> Path:
    if (found := postgres.find()) is None:
        raise FileNotFoundError("no PostgreSQL server programs are installed")
    return found
