"""What becomes of pods that the watch lost: who is gone is fenced, who lives is let be, whatever is said of it."""

import asyncio
from contextlib import closing
from typing import Any

import pytest

from controller.ground import Ground
from controller.test_pods import raw
from fibflow.store import leases, lost_pods
from fibflow.store.database import Database, Session, read
from fibflow.store.leases import Origin
from fibflow.store.synced import Name
from fibflow.store.tables import fenced_pod
from fibflow_operator.kube import workloads
from fibflow_operator.kube.api import ApiUnavailable
from fibflow_operator.reconcile import pod_recovery
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.worker_controller import WorkerController
from fibflow_operator.world import World
from fibflow_operator.writing import Writer

LOST = Name("shop", "pool-1")


@read
def fenced(session: Session) -> set[str]:
    return set(session.connection.execute(fenced_pod.select()).scalars())


class Stage:
    """A leader that knows of a pod `pool-1` whose uid is `u1`; a test lets it lose the pod and turns the handle."""

    def __init__(self, database: Database) -> None:
        self.database, self.ground = database, Ground()
        writer = Writer(database, "test/fibflow", "me", 0, confirm=self._confirm)
        self.controller = WorkerController(Scene(World(), writer), self.ground, changed=lambda keys: None)
        self.writer = writer

    async def _confirm(self) -> bool:
        return True

    async def begin(self) -> None:
        await self.writer.take()
        self.controller.see_pods("shop", 5, [], 0.0)
        self.controller.see_pod("ADDED", raw())
        await self.recover()

    async def recover(self) -> set[str]:
        """Do what is due about pods; those that are fenced."""
        for uid in self.controller.pods.take(10):
            await self.controller._recover(uid)
        return self.database.call(fenced)


@pytest.fixture
def stage(postgres_url):
    database = Database(postgres_url)
    yield Stage(database)
    asyncio.run(database.aclose())
    database.close()


@pytest.mark.parametrize(("there", "fenced"), [(None, {"u1"}), ("another", {"u1"}), ("u1", set())])
def test_a_pod_that_the_watch_lost_is_fenced_unless_it_is_there(stage, there, fenced):
    async def course():
        await stage.begin()
        stage.ground.pods = {} if there is None else {LOST: there}
        stage.controller.see_pod("DELETED", raw(resourceVersion="8"))
        assert await stage.recover() == fenced
        assert stage.controller.scene.cache.of_pool("shop", "pool") == []

    asyncio.run(course())


@pytest.mark.parametrize(("there", "fenced"), [(None, {"u1"}), ("u1", set())])
def test_a_pod_that_a_list_lacks_is_fenced_unless_it_is_there(stage, there, fenced):
    async def course():
        await stage.begin()
        stage.ground.pods = {} if there is None else {LOST: there}
        stage.controller.see_pods("shop", 9, [], 0.0)
        assert await stage.recover() == fenced

    asyncio.run(course())


def test_what_a_worker_says_of_its_pod_is_looked_up_before_it_is_believed(stage):
    async def course():
        for number in (2, 3):
            origin = Origin(pod_uid=f"u{number}", pool="pool")
            with closing(Database(stage.database.url.render_as_string(hide_password=False), namespace="shop")) as shop:
                shop.call(leases.register, pod_id=f"own-{number}", host="h", pid=1, slots=1, lease=600.0, origin=origin)
        await stage.begin()
        await stage.controller.remember()
        stage.ground.pods = {Name("shop", "own-2"): "u2"}
        stage.controller.see_pods("shop", 9, [raw()], float("inf"))
        assert await stage.recover() == {"u3"}
        assert {each.pod_uid for each in stage.database.call(lost_pods.pods_with_leases)} == {"u2"}

    asyncio.run(course())


def test_a_pod_that_comes_back_after_its_fence_was_lost_is_fenced_again(stage):
    async def course():
        await stage.begin()
        stage.controller.see_pod("DELETED", raw(resourceVersion="8"))
        assert await stage.recover() == {"u1"}
        with stage.database.engine.begin() as connection:
            connection.execute(fenced_pod.delete())  # as when the database was wiped
        origin = Origin(pod_uid="u1", pool="pool")
        with closing(Database(stage.database.url.render_as_string(hide_password=False), namespace="shop")) as shop:
            shop.call(leases.register, pod_id="pool-1", host="h", pid=1, slots=1, lease=600.0, origin=origin)
        await stage.controller.remember(anew=True)
        stage.controller.see_pods("shop", 9, [], float("inf"))
        assert await stage.recover() == {"u1"}

    asyncio.run(course())


def test_nobody_is_fenced_while_it_cannot_be_looked_up(stage):
    async def away(pod):
        raise ApiUnavailable("cut")

    async def course():
        await stage.begin()
        stage.ground.pod_uid, there = away, stage.ground.pod_uid
        stage.controller.see_pod("DELETED", raw(resourceVersion="8"))
        assert await stage.recover() == set()
        assert stage.controller.pods.retrying == 1
        stage.ground.pod_uid = there
        stage.controller.pods.add(["u1"])
        assert await stage.recover() == {"u1"}

    asyncio.run(course())


def test_a_pod_that_takes_long_to_look_up_holds_no_other_up(stage):
    async def course():
        asked, answer, other = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow_for_one(pod):
            if pod == LOST:
                asked.set()
                await answer.wait()
            else:
                other.set()

        await stage.begin()
        stage.controller.see_pod("ADDED", raw(name="pool-2", uid="u2"))
        stage.ground.pod_uid = slow_for_one
        running = asyncio.create_task(stage.controller.recover_pods())
        stage.controller.see_pod("DELETED", raw(resourceVersion="8"))
        await asyncio.wait_for(asked.wait(), 10)
        stage.controller.see_pod("DELETED", raw(name="pool-2", uid="u2", resourceVersion="9"))
        await asyncio.wait_for(other.wait(), 10)
        answer.set()
        async with asyncio.timeout(10):
            while len(stage.controller.pods):
                await asyncio.sleep(0.01)
        running.cancel()
        assert stage.database.call(fenced) == {"u1", "u2"}

    asyncio.run(course())


def test_a_pod_that_is_seen_again_is_lost_no_more(stage):
    async def course():
        await stage.begin()
        stage.controller.see_pod("DELETED", raw(resourceVersion="8"))
        stage.controller.see_pod("ADDED", raw(resourceVersion="9"))
        assert await stage.recover() == set()
        assert [pod.uid for pod in stage.controller.scene.cache.of_pool("shop", "pool")] == ["u1"]

    asyncio.run(course())


SILENT = {
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [{"name": "worker", "ready": True, "state": {"running": {}}}],
}


@pytest.mark.parametrize("renews", [False, True], ids=["it renews no more", "it renews"])
def test_a_silent_pods_worker_is_looked_at_when_it_will_have_missed_two_heartbeats_and_not_before(stage, renews, monkeypatch):
    looks: list[float] = []

    @read
    def counted(session, uids):
        looks.append(lost_pods.silent_in(session, uids) or 0.0)
        return looks[-1]

    monkeypatch.setattr(pod_recovery, "silent_in", counted)

    async def course():
        await stage.begin()
        origin = Origin(pod_uid="u1", pool="pool", heartbeat=0.4)
        worker = stage.database.call(leases.register, pod_id="pool-1", host="h", pid=1, slots=1, lease=600.0, origin=origin)
        stage.controller.see_pod("MODIFIED", raw(SILENT, resourceVersion="8"))
        await stage.recover()
        if renews:
            stage.database.call(leases.renew, worker)
        await due(stage)
        left = {each.pod_uid for each in stage.database.call(lost_pods.pods_with_leases)}
        assert (len(looks), left) == (2, {"u1"} if renews else set())
        assert 0 < looks[0] <= 0.8 and (looks[1] == 0) is not renews

    asyncio.run(course())


async def due(stage) -> None:
    """Wait until pods are to be looked at, as a leader does, and do what is due."""
    for uid in await stage.controller.pods.taking(10):
        await stage.controller._recover(uid)


@pytest.mark.parametrize("name", ["../secrets", "a/exec", "a?b", "", "..", "A"])
def test_a_name_that_no_pod_can_have_is_asked_of_nobody(name):
    nobody: Any = None
    assert workloads.pod_uid(nobody, Name("shop", name)) is None
    workloads.cost(nobody, Name("shop", name), "1")


def test_a_pod_that_failed_is_forgotten_once_it_is_gone(stage):
    async def course():
        await stage.begin()
        stage.controller.see_pod("MODIFIED", raw({"phase": "Failed"}, resourceVersion="8"))
        assert await stage.recover() == {"u1"}
        assert [pod.uid for pod in stage.controller.scene.cache.of_pool("shop", "pool")] == ["u1"]
        stage.controller.see_pod("DELETED", raw({"phase": "Failed"}, resourceVersion="9"))
        await stage.recover()
        assert stage.controller.scene.cache.of_pool("shop", "pool") == []

    asyncio.run(course())
