"""What tells a leader of the cluster: all of it reaches the leader's event loop, and none of it once the lead is over."""

import asyncio
import threading
from typing import Any

import pytest

from controller.shelf import Shelf
from fibflow.store.database import Database
from fibflow.store.synced import Name
from fibflow_operator import sources
from fibflow_operator.leading import Leading
from fibflow_operator.program import Operator, Settings, ThroughApi
from fibflow_operator.sources import Sources
from fibflow_operator.world import Key, Kind

HEAD = {"name": "pool-pool", "namespace": "shop", "uid": "u1", "resourceVersion": "5", "generation": 1}
RESOURCE = {"metadata": {**HEAD, "name": "pool"}, "spec": {"app": "shop:app"}}
LABELS = {"labels": {"fibflow.dev/pool": "pool"}}
THERE: dict[str, list[Any]] = {
    "workerpools": [RESOURCE],
    "deployments": [{"metadata": HEAD | LABELS, "spec": {}}],
    "poddisruptionbudgets": [{"metadata": HEAD | LABELS, "spec": {}}],
    "pods": [{"metadata": {**HEAD, **LABELS, "name": "pool-1", "uid": "p1"}}],
}


class Answering:
    """An API server that has one object of each kind, and tells of nothing more."""

    credentials = None

    def call(self, method: str, path: str, *more: Any, **named: Any) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "7"}, "items": THERE.get(path.rpartition("/")[2], [])}

    def apart(self) -> "Answering":
        return self

    def lines(self, *request: Any) -> Any:
        return iter(())

    async def run(self, call: Any, *args: Any) -> Any:
        return call(*args)


class OneEvent:
    """Stands in for the watch: it tells of one resource from another thread, and goes on until it is stopped."""

    alive = False

    def __init__(self, credentials: Any, namespaces: Any, deliver: Any) -> None:
        self._thread = threading.Thread(target=deliver, args=("WorkerPool", "ADDED", RESOURCE))

    def start(self) -> None:
        self.alive = True
        self._thread.start()

    def stop(self) -> None:
        self._thread.join()
        self.alive = False


@pytest.fixture(autouse=True)
def one_event(monkeypatch):
    monkeypatch.setattr(sources, "ResourceWatch", OneEvent)


def test_what_there_is_reaches_the_leader_until_it_leads_no_more():
    api: Any = Answering()
    nobody: Any = None

    async def story():
        leading = Leading(nobody, Shelf("shop"), ["shop"])
        telling = Sources(api, ["shop"])
        assert telling.alive
        telling.start(leading)
        telling.watch(leading)
        cache, key = leading.scene.cache, Key(Kind.WORKER_POOL, "shop", "pool")
        while not (cache.knows("shop") and cache.knows_pods("shop") and leading.world.get(key)):
            await asyncio.sleep(0.01)
        assert telling.alive
        assert [list(each) for each in (cache.deployments, cache.budgets)] == [[Name("shop", "pool-pool")]] * 2
        assert [pod.uid for pod in cache.of_pool("shop", "pool")] == ["p1"]
        await telling.stop()
        assert not telling.alive

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_watch_that_tells_of_nothing_is_begun_anew_and_is_still_one(monkeypatch):
    did: list[str] = []

    class Noted:
        def __init__(self, *request: Any) -> None:
            did.append("made")

        def start(self) -> None:
            did.append("started")

        def renew(self) -> None:
            did.append("renewed")

    monkeypatch.setattr(sources, "ResourceWatch", Noted)
    api: Any = Answering()
    nobody: Any = None

    async def story():
        telling = Sources(api, ["shop"])
        for _ in range(3):
            telling.watch(nobody)

    asyncio.run(story())
    assert did == ["made", "started", "renewed", "renewed"]


def test_the_pages_of_a_list_are_seen_in_the_leaders_own_thread():
    class InAThread(Answering):
        async def run(self, call: Any, *args: Any) -> Any:
            return await asyncio.to_thread(call, *args)

    api: Any = InAThread()
    seen_in: list[tuple[str, int]] = []

    async def story():
        def some(found: Any) -> None:
            seen_in.append((found[0].key.name, threading.get_ident()))

        listed = await ThroughApi(api, api, "me").list_all(Kind.WORKER_POOL, "shop", some)
        await asyncio.sleep(0)
        assert [each.key.name for each in listed.resources] == ["pool"]

    asyncio.run(story())
    assert seen_in == [("pool", threading.get_ident())]


def test_a_lead_that_ends_leaves_nothing_that_tells(monkeypatch):
    async def led(leading: Leading) -> None:
        leading.follow(leading)
        leading.watch(leading)
        await asyncio.Event().wait()

    monkeypatch.setattr(Leading, "run", led)
    api: Any = Answering()
    unused = Database("postgresql://nobody@127.0.0.1/none")
    operator = Operator(api, unused, Settings("test", "one", ("shop",), "shop", "lease", 0))

    async def story():
        leading = asyncio.ensure_future(operator._lead(1))
        while operator._sources is None or not operator._sources._informers:
            await asyncio.sleep(0)
        telling = operator._sources
        assert operator._complaints() == [] and telling.alive
        leading.cancel()
        await asyncio.wait([leading])
        assert operator._complaints() == [] and not telling.alive

    asyncio.run(asyncio.wait_for(story(), 20))
