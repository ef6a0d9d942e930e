"""How a fleet shrinks and grows, on a real PostgreSQL and Deployments in memory: idle workers go, each of them once."""

import asyncio

import pytest

from controller.ground import Ground
from fibflow import Client
from fibflow.scaling import Load
from fibflow.store import claim, leases
from fibflow.store.database import Database
from fibflow.store.demand import Demand
from fibflow.store.draining import mark_idle, marked
from fibflow.store.leases import Origin
from fibflow.store.tasktypes import Declaration, declare_types
from fibflow_operator import deployment
from fibflow_operator.deployment import fleet_of
from fibflow_operator.reconcile.scaling import Scaling, scale
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.world import World, seen
from fibflow_operator.writing import Writer
from fibflow_operator.yard import deployment as read

SPEC = {"app": "a:b", "image": "i:1", "slots": 1, "scaling": {"policy": "Backlog", "scaleDownDelaySeconds": 0}}
METADATA = {"name": "pool", "namespace": "default", "uid": "u1", "resourceVersion": "1"}


class Stage:
    """A pool whose Deployment is as it was asked to be at once."""

    def __init__(self, database: Database) -> None:
        self.database, self.ground, self.scaling = database, Ground(), Scaling()
        fleet = fleet_of(seen({"kind": "WorkerPool", "metadata": METADATA, "spec": SPEC}))
        assert fleet is not None
        self.fleet = fleet
        self.writer = Writer(database, "test/fibflow", "me", 0, confirm=self._confirm)
        self.scene = Scene(World(), self.writer)
        self.types = database.call(declare_types, [Declaration("work")], pool="pool")

    async def _confirm(self) -> bool:
        return True

    async def begin(self, replicas: int) -> None:
        await self.writer.take()
        await self.ground.create(self.fleet.deployment, deployment.seed(self.fleet))
        await self.ground.apply(self.fleet.deployment, deployment.applied_form(self.fleet))
        await self.ground.scale(self.fleet.deployment, replicas)
        self.ground.done.clear()

    async def look(self, load: Load | None, ready: int | None = None) -> list[str]:
        """A decision, when so many pods are ready, all by default; what was done."""
        raw = self.ground.deployments[self.fleet.deployment]
        wanted = raw["spec"]["replicas"]
        counts = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": wanted if ready is None else ready}
        status = {"observedGeneration": raw["metadata"]["generation"], **counts}
        self.scene.yard.see_deployment(read({**raw, "status": status}))
        demands = None if load is None else {self.fleet.key.place: Demand((load,))}
        self.ground.done.clear()
        await scale(self.scene, self.ground, self.scaling, self.fleet, demands)
        return list(self.ground.done)

    def worker(self, number: int, busy: bool) -> int:
        origin = Origin(pod_uid=f"uid-{number}", pool="pool")
        pod_id = f"pod-{number}"
        worker_id = self.database.call(leases.register, pod_id=pod_id, host="h", pid=1, slots=1, lease=600.0, origin=origin)
        if busy:
            Client(self.database).enqueue("work")
            assert self.database.call(claim.claim, worker_id, [claim.Lane(self.types["work"], 1)], 1)
        return worker_id


@pytest.fixture
def stage(postgres_url):
    database = Database(postgres_url)
    yield Stage(database)
    asyncio.run(database.aclose())
    database.close()


def test_idle_workers_are_marked_then_their_pods_priced_then_the_scale_is_lowered(stage):
    async def course():
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number < 2)
        assert await stage.look(Load(running=2)) == ["cost pod-2 -1000", "cost pod-3 -1000", "scale 2"]

    asyncio.run(course())


def test_a_worker_that_was_let_go_makes_room_once_however_long_its_end_takes(stage):
    async def course():
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number < 3)
        assert await stage.look(Load(running=2)) == ["cost pod-3 -1000", "scale 3"]
        assert await stage.look(Load(running=2)) == []  # it holds its lease yet, and nobody else is idle

    asyncio.run(course())


@pytest.mark.parametrize(("load", "ready"), [(None, None), (Load(running=1), 3)])
def test_nothing_goes_without_a_signal_or_while_a_pod_is_not_ready(stage, load, ready):
    async def course():
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number < 1)
        assert await stage.look(load, ready) == []
        assert stage.database.call(marked, "default", "pool") == []

    asyncio.run(course())


def test_more_is_asked_for_at_once_and_marks_are_taken_back_first(stage):
    async def course():
        await stage.begin(2)
        for number in range(2):
            stage.worker(number, busy=False)
        await stage.writer.write(mark_idle, "default", "pool", 2)
        assert await stage.look(Load(running=3)) == ["cost pod-0 None", "cost pod-1 None", "scale 3"]
        assert stage.database.call(marked, "default", "pool") == []

    asyncio.run(course())
