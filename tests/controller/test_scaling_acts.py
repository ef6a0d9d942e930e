"""How a fleet shrinks and grows, on a real PostgreSQL and Deployments in memory: idle workers go, each of them once."""

import asyncio
from typing import Any

import pytest

from controller.ground import Ground
from fibflow import Client
from fibflow.scaling import Load
from fibflow.store import claim, leases
from fibflow.store.database import Database
from fibflow.store.demand import Demand
from fibflow.store.draining import mark_idle, marked, pools_marked
from fibflow.store.leases import Origin
from fibflow.store.tasktypes import Declaration, declare_types
from fibflow_operator import deployment
from fibflow_operator.fleet import fleet_of, rule_of
from fibflow_operator.kube.api import ApiFailure, ApiRefused, ApiUnavailable
from fibflow_operator.pods import pod
from fibflow_operator.reconcile.scaling import Scaling, Sight, scale
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.workload_cache import deployment as read
from fibflow_operator.world import World, seen
from fibflow_operator.writing import Writer

SPEC = {"app": "a:b", "image": "i:1", "slots": 1, "scaling": {"policy": "Backlog", "scaleDownDelaySeconds": 0}}
METADATA = {"name": "pool", "namespace": "default", "uid": "u1", "resourceVersion": "1"}


class Stage:
    """A pool whose Deployment is as it was asked to be at once."""

    def __init__(self, database: Database) -> None:
        self.database, self.scaling = database, Scaling()
        self.ground = Ground()
        self.ask_for()
        self.writer = Writer(database, "test/fibflow", "me", 0, confirm=self._confirm)
        self.scene = Scene(World(), self.writer)
        self.types = database.call(declare_types, [Declaration("work")], pool="pool")

    def ask_for(self, **spec: Any) -> None:
        """What the pool asks for, from now on."""
        whole = {**SPEC, **spec}
        self.fleet = fleet_of(seen({"kind": "WorkerPool", "metadata": METADATA, "spec": whole}), rule_of(whole))

    async def _confirm(self) -> bool:
        return True

    async def begin(self, replicas: int) -> None:
        await self.writer.take()
        await self.ground.create(self.fleet.deployment, deployment.seed(self.fleet))
        await self.ground.apply(self.fleet.deployment, deployment.applied_form(self.fleet))
        await self.ground.scale(read(self.ground.deployments[self.fleet.deployment]), replicas)
        self.ground.done.clear()

    async def look(self, load: Load | None, ready: int | None = None) -> list[str]:
        """A decision, when so many pods are ready, all by default; what was done."""
        self.see(ready)
        return await self.decide(load)

    def see(self, ready: int | None = None) -> None:
        """The Deployment is seen as it is now."""
        raw = self.ground.deployments[self.fleet.deployment]
        wanted = raw["spec"]["replicas"]
        counts = {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": wanted if ready is None else ready}
        status = {"observedGeneration": raw["metadata"]["generation"], **counts}
        self.scene.cache.deployments.see(read({**raw, "status": status}))

    async def decide(self, load: Load | None) -> list[str]:
        """A decision on what was seen last; what was done."""
        sight = None
        if load is not None:
            sight = Sight({self.fleet.key.place: Demand((load,))}, self.database.call(pools_marked))
        self.ground.done.clear()
        await scale(self.scene, self.ground, self.scaling, self.fleet, sight)
        return list(self.ground.done)

    def pod(self, number: int, ready: bool) -> None:
        """A pod of the pool is there."""
        labels = {"fibflow.dev/pool": "pool"}
        head = {
            "name": f"pod-{number}",
            "namespace": "default",
            "uid": f"uid-{number}",
            "resourceVersion": "1",
            "labels": labels,
        }
        conditions = [{"type": "Ready", "status": str(ready)}]
        self.scene.cache.see_pod(pod({"metadata": head, "status": {"conditions": conditions}}))

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


def test_a_scale_that_was_decided_on_an_older_deployment_changes_nothing_and_all_stay(stage):
    async def course():
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number < 2)
        stage.see()
        await stage.ground.scale(read(stage.ground.deployments[stage.fleet.deployment]), 2)  # somebody was quicker
        back = ["cost pod-2 None", "cost pod-3 None"]
        assert await stage.decide(Load(running=2)) == ["cost pod-2 -1000", "cost pod-3 -1000", "conflict", *back]
        assert stage.database.call(marked, "default", "pool") == [] and stage.scaling.acts.let_go == {}
        assert await stage.decide(Load(running=2)) == []  # until the watch brings what it is now
        assert await stage.decide(Load(running=9)) == []
        assert await stage.look(Load(running=9)) == ["scale 9"]

    asyncio.run(course())


class Refusing(Ground):
    """A server that answers every scale with this."""

    def __init__(self, failure: ApiFailure) -> None:
        super().__init__()
        self.failure: ApiFailure | None = failure

    async def scale(self, seen, replicas):
        if self.failure is not None and replicas < 4:
            raise self.failure
        return await super().scale(seen, replicas)


def test_who_was_let_go_stays_where_the_scale_is_refused(stage):
    async def course():
        stage.ground = Refusing(ApiRefused(403, "not allowed"))
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number < 3)
        assert (await stage.look(Load(running=3)))[-1] == "cost pod-3 None"
        assert stage.database.call(marked, "default", "pool") == [] and stage.scaling.acts.let_go == {}

    asyncio.run(course())


@pytest.mark.parametrize("failure", [ApiUnavailable("cut"), ApiRefused(504, "timeout")], ids=["cut", "504"])
def test_who_was_let_go_counts_as_gone_where_the_scale_may_have_been_lowered(stage, failure):
    async def course():
        stage.ground = Refusing(failure)
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number < 3)
        with pytest.raises(ApiFailure):
            await stage.look(Load(running=3))
        assert len(stage.database.call(marked, "default", "pool")) == len(stage.scaling.acts.let_go) == 1
        assert await stage.look(Load(running=3)) == []  # nobody else goes for it

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


# ── pods that are not ready ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("running", "gone"), [(3, ["pod-4"]), (2, ["pod-2", "pod-4"])])
def test_a_pod_that_never_becomes_ready_goes_first_and_keeps_no_idle_one(stage, running, gone):
    async def course():
        await stage.begin(4)
        for number in range(3):
            stage.worker(number, busy=number < running)
            stage.pod(number, ready=True)
        stage.pod(4, ready=False)
        done = await stage.look(Load(running=running), ready=3)
        assert done == [*(f"cost {name} -1000" for name in gone), f"scale {running}"]
        assert [each.pod for each in stage.database.call(marked, "default", "pool")] == gone[:-1]

    asyncio.run(course())


def test_nobody_goes_while_a_pod_that_is_not_ready_may_work(stage):
    async def course():
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number in (0, 3))
            stage.pod(number, ready=number < 3)
        assert await stage.look(Load(running=2), ready=3) == []

    asyncio.run(course())


def test_nobody_goes_while_the_pods_that_are_known_are_not_those_that_are_counted(stage):
    async def course():
        await stage.begin(4)
        for number in range(3):
            stage.worker(number, busy=number < 2)
            stage.pod(number, ready=True)
        assert await stage.look(Load(running=2), ready=3) == []

    asyncio.run(course())


# ── where somebody else decides ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("policy", ["Fixed", "External"])
def test_where_replicas_decide_idle_workers_go_first_and_as_many_go_as_are_asked_for(stage, policy):
    async def course():
        stage.ask_for(scaling={"policy": policy}, replicas=1)
        await stage.begin(4)
        for number in range(4):
            stage.worker(number, busy=number != 1)
        assert await stage.look(Load(running=3)) == ["cost pod-1 -1000", "scale 1"]
        assert [each.pod for each in stage.database.call(marked, "default", "pool")] == ["pod-1"]

    asyncio.run(course())


@pytest.mark.parametrize(("replicas", "done"), [(1, ["scale 1"]), (6, ["scale 6"]), (4, [])])
def test_replicas_are_obeyed_though_the_database_is_away(stage, replicas, done):
    async def course():
        stage.ask_for(scaling={"policy": "Fixed"}, replicas=replicas)
        await stage.begin(4)
        assert await stage.look(None) == done

    asyncio.run(course())


def test_marks_are_taken_back_when_replicas_begin_to_decide(stage):
    async def course():
        await stage.begin(2)
        for number in range(2):
            stage.worker(number, busy=False)
        await stage.writer.write(mark_idle, "default", "pool", 2)
        stage.ask_for(scaling={"policy": "Fixed"}, replicas=2)
        assert await stage.look(Load()) == ["cost pod-0 None", "cost pod-1 None"]
        assert stage.database.call(marked, "default", "pool") == []

    asyncio.run(course())


def test_of_a_pool_that_is_gone_nothing_is_remembered(stage):
    async def course():
        await stage.begin(1)
        await stage.look(Load(running=1))
        assert list(stage.scaling.histories) == [stage.fleet.place]
        stage.scaling.keep([])
        assert stage.scaling.histories == {}

    asyncio.run(course())
