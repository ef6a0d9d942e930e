"""A pool of two watched pods with room for each other's tasks, and what tests do to one of them: its victim."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from cluster import Cluster, until
from cluster.node import Node
from e2e.fleets import bound, is_ready, pods_of, pool
from e2e.planes import Plane
from e2e.sightings import Sighting, Sightings, moment_of, sightings
from fibflow import Client

LONG = {"seconds": 600}
AGAIN = "SELECT attempt >= %s FROM fibflow.task WHERE id = %s AND state = 'running'"
OWNER = "SELECT w.id, w.pod_id, w.pod_uid FROM fibflow.task t JOIN fibflow.worker w ON w.id = t.worker_id WHERE t.id = %s"
SUCCESSOR = "SELECT count(*) > 0 FROM fibflow.worker WHERE pod_uid = %s AND id > %s"
STORY = """
    SELECT 'its worker renewed its lease last', renewed_at FROM fibflow.worker WHERE id = %s
    UNION ALL SELECT 'its worker was ' || status, ended_at FROM fibflow.worker WHERE id = %s
    UNION ALL SELECT 'attempt ' || attempt || ' ended: ' || outcome, ended_at FROM fibflow.attempt WHERE task_id = %s
    UNION ALL SELECT 'attempt ' || attempt || ' claimed by worker ' || worker_id, claimed_at FROM fibflow.task
        WHERE id = %s AND state = 'running'
"""
STATUS = "SELECT status FROM fibflow.worker WHERE id = %s"


@dataclass(frozen=True, slots=True)
class Victim:
    """A task that runs, and where."""

    task_id: int
    worker_id: int
    pod: str
    uid: str


@dataclass
class Ground:
    """A pool of two pods with room for each other's tasks, watched."""

    plane: Plane
    cluster: Cluster
    client: Client
    seen: Sightings
    database: psycopg.Connection

    def victim(self, payload: dict[str, int] = LONG) -> Victim:
        """A long task on a fresh pod."""
        task_id = self.client.enqueue("work", payload)
        moment_of(self.database, True, AGAIN, 1, task_id)
        (row,) = self.plane.sql(OWNER, task_id)
        return Victim(task_id, *row)

    def again(self, victim: Victim, seconds: float = 60) -> float:
        """When the task ran again."""
        return moment_of(self.database, True, AGAIN, 2, victim.task_id, seconds=seconds)

    def shown(self, victim: Victim, after: float, fits) -> Sighting:
        return self.seen.wait(lambda each: each.uid == victim.uid and fits(each), after)

    def tell(self, victim: Victim, begin: float) -> None:
        """Print what became of it, in seconds since `begin`: a test that fails shows it."""
        far = time.time() - time.monotonic() + begin
        rows = self.plane.sql(STORY, *[victim.worker_id] * 2, *[victim.task_id] * 2)
        told = [(instant / 1_000_000 - far, what) for what, instant in rows if instant is not None]
        told += [(each.at - begin, each.gist) for each in self.seen.seen if each.uid == victim.uid and each.at >= begin]
        print(f"task {victim.task_id} in pod {victim.pod}:", *(f"{at:8.3f} {what}" for at, what in sorted(told)), sep="\n  ")

    def kill(self, victim: Victim) -> None:
        """Kill the worker as nothing survives."""
        node = self.cluster.node_of(victim.pod, self.plane.namespace)
        node.ctr("tasks", "kill", "--signal", "SIGKILL", self.cluster.container_of(victim.pod, self.plane.namespace))

    def delete(self, pod: str, *options: str) -> None:
        self.cluster.kubectl("delete", "pod", pod, "-n", self.plane.namespace, "--wait=false", *options)

    def back(self, node: Node) -> None:
        """Wait until a node takes pods again, or both would be on the other one."""
        self.cluster.wait("condition=Ready", f"node/{node.name}", seconds=60)
        until(lambda: not self.cluster.field(".spec.taints", f"node/{node.name}"), 60, f"{node.name} takes pods again")

    def refused(self, victim: Victim) -> None:
        """The old fence is worth nothing any more."""
        (row,) = self.plane.sql(STATUS, victim.worker_id)
        assert row[0] in ("reaped", "superseded")

    def clear(self, victim: Victim) -> None:
        """Cancel the task, and have two fresh pods again."""
        self.client.cancel(victim.task_id)
        if victim.uid in {pod["metadata"]["uid"] for pod in pods_of(self.plane)}:
            self.delete(victim.pod, "--grace-period=1")
        self.ready()

    def ready(self) -> None:
        two = "SELECT count(*) FROM fibflow.worker WHERE status = 'active' AND pod_uid = ANY(%s)"

        def both() -> bool:
            uids = [pod["metadata"]["uid"] for pod in pods_of(self.plane) if is_ready(pod)]
            return len(uids) == 2 and self.plane.sql(two, uids) == [(2,)]

        until(both, 90, "two fresh pods have registered and are Ready")


@contextmanager
def ground_on(plane: Plane, cluster: Cluster, image: str) -> Iterator[Ground]:
    """Such a pool, with an operator that tends it."""
    limits = {"limits": {"memory": "200Mi"}}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    spread_over = [{**spread, "labelSelector": {"matchLabels": {"fibflow.dev/pool": "pool"}}}]
    wanted = pool(image, replicas=2, slots=4, drainSeconds=30, resources=limits, topologySpreadConstraints=spread_over)
    plane.apply(wanted, bound(), bound("pool", "apart"), bound("pool", "late"))
    plane.start()
    with (
        sightings(cluster, plane.namespace) as seen,
        Client(plane.url, namespace=plane.namespace) as client,
        psycopg.connect(plane.url, autocommit=True) as database,
    ):
        made = Ground(plane, cluster, client, seen, database)
        made.ready()
        until(lambda: len(client.types()) == 3, 20, "the types are stored")
        yield made
