"""What a watch of our own sees of pods, and what becomes of a task's row, each with the moment it was seen.

Moments are of this machine's one clock (monotonic seconds), for the API's own have whole seconds.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from cluster import Access, until

STEP = 0.005


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event, and when it arrived."""

    at: float
    type: str
    pod: dict[str, Any]
    """The object, be it a pod or another."""

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def replicas(self) -> int:
        """Of a Deployment or a pool: how many are asked for."""
        return int(self.pod["spec"]["replicas"])

    @property
    def ready(self) -> bool:
        conditions = self.pod["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    @property
    def leaving(self) -> bool:
        return "deletionTimestamp" in self.pod["metadata"]

    @property
    def phase(self) -> str:
        return str(self.pod["status"].get("phase"))

    @property
    def ended(self) -> bool:
        """Whether a container of it is shown to have ended."""
        states = self.pod["status"].get("containerStatuses", [])
        return any("terminated" in each.get(when, {}) for each in states for when in ("state", "lastState"))

    @property
    def silent(self) -> bool:
        """Whether it is not ready though its containers are."""
        status = self.pod["status"]
        ready = [each["status"] for each in status.get("conditions", []) if each["type"] == "Ready"]
        up = [each["ready"] for each in status.get("containerStatuses", [])]
        return ready == ["False"] and bool(up) and all(up)

    @property
    def gist(self) -> str:
        """What is seen of a pod, in a line."""
        marks = [name for name in ("ready", "leaving", "ended", "silent") if getattr(self, name)]
        return " ".join([self.type, self.phase, *marks])


@dataclass
class Sightings:
    """Every event of the pods of a namespace since it began."""

    process: subprocess.Popen[bytes]
    seen: list[Sighting] = field(default_factory=list)

    def follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            self.seen.append(Sighting(time.monotonic(), event["type"], event["object"]))

    def first(self, fits: Callable[[Sighting], object], after: float = 0.0) -> Sighting | None:
        return next((each for each in list(self.seen) if each.at >= after and fits(each)), None)

    def wait(self, fits: Callable[[Sighting], object], after: float = 0.0, seconds: float = 60) -> Sighting:
        """The first event that fits, as soon as it was seen."""
        try:
            until(lambda: self.first(fits, after) is not None, seconds, "the watch sees it")
        except TimeoutError as failure:
            failure.add_note(
                "\n".join(f"{each.at - after:.3f} {each.type} {json.dumps(each.pod)[-2500:]}" for each in self.seen)
            )
            raise
        found = self.first(fits, after)
        assert found is not None
        return found


PODS, DEPLOYMENTS, POOLS = "/api/v1/{}/pods", "/apis/apps/v1/{}/deployments", "/apis/fibflow.dev/v1alpha1/{}/workerpools"


@contextmanager
def sightings(cluster: Access, namespace: str, what: str = PODS) -> Iterator[Sightings]:
    """A watch of what a namespace has of a kind."""
    command = [*cluster._kubectl, "--kubeconfig", str(cluster.kubeconfig), "get", "--raw"]
    path = what.format(f"namespaces/{namespace}")
    with subprocess.Popen([*command, f"{path}?watch=1"], stdout=subprocess.PIPE) as process:
        begun = Sightings(process)
        thread = threading.Thread(target=begun.follow, daemon=True)
        thread.start()
        try:
            yield begun
        finally:
            process.kill()
            thread.join(10)


def moment_of(
    connection: psycopg.Connection[Any], wanted: object, statement: str, *values: object, seconds: float = 60
) -> float:
    """When a statement first gave this value."""
    deadline = time.monotonic() + seconds
    while (found := connection.execute(statement, values).fetchone()) is None or found[0] != wanted:
        assert time.monotonic() < deadline, f"{statement} {values} is {found}, and not {wanted}"
        time.sleep(STEP)
    return time.monotonic()
