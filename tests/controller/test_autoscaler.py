"""When it is looked at how many workers there should be: nothing that the API server does slowly keeps anybody waiting."""

import asyncio
from types import SimpleNamespace

import pytest

from controller.shelf import Shelf
from fibflow.scaling import Rule
from fibflow_operator import autoscaler
from fibflow_operator.autoscaler import SCALE_AT_MOST, SHARE, Autoscaler
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.verdict import Standing
from fibflow_operator.world import World, seen

METADATA = {"name": "pool", "namespace": "shop", "uid": "u1", "resourceVersion": "1"}


@pytest.mark.parametrize("look, pause", [(0.0, SCALE_AT_MOST), (0.5, SHARE * 0.5)])
def test_the_next_look_waits_for_what_the_last_look_cost_and_not_for_what_the_scaling_did(look, pause, monkeypatch):
    clock, paused = SimpleNamespace(now=0.0), []

    async def sight(self, namespaces):
        clock.now += look

    async def scale(*told):
        clock.now += 8
        return False

    async def sleep(seconds):
        paused.append(seconds)
        raise asyncio.CancelledError

    async def scene():
        pool = seen({"kind": "WorkerPool", "metadata": METADATA, "spec": {"app": "a:b", "image": "i:1"}})
        scene = Scene(World(), writer=None)  # type: ignore[arg-type]
        scene.world.see(pool)
        scene.standings[pool.key] = Standing(edition=pool.edition, rule=Rule())
        one = Autoscaler(scene, Shelf("shop"), changed=lambda keys: None)
        one.work.set()
        with pytest.raises(asyncio.CancelledError):
            await one.run()

    monkeypatch.setattr(Autoscaler, "_sight", sight)
    monkeypatch.setattr(autoscaler, "scale", scale)
    monkeypatch.setattr(autoscaler, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("fibflow_operator.autoscaler.asyncio.sleep", sleep)
    asyncio.run(scene())
    assert paused == [pause]


class Calls:
    """Scaling that takes as long as a test wants for one pool, and no time for the others."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.heard, self.released = asyncio.Event(), asyncio.Event()

    async def scale(self, scene, workloads, scaling, fleet, sight) -> bool:
        self.begun.append(fleet.pool)
        self.heard.set()
        if fleet.pool == "slow":
            await self.released.wait()
        return False

    async def count(self, pool: str, number: int) -> None:
        """Return once a pool's scaling has begun so many times."""
        async with asyncio.timeout(10):
            while self.begun.count(pool) < number:
                self.heard.clear()
                await self.heard.wait()


def pools(*names: str) -> Autoscaler:
    """A leader of these pools, who looks only for a reason."""
    scene = Scene(World(), writer=None)  # type: ignore[arg-type]
    for version, name in enumerate(names, start=1):
        metadata = {**METADATA, "name": name, "resourceVersion": str(version)}
        pool = seen({"kind": "WorkerPool", "metadata": metadata, "spec": {"app": "a:b", "image": "i:1"}})
        scene.world.see(pool)
        scene.standings[pool.key] = Standing(edition=pool.edition, rule=Rule())
    return Autoscaler(scene, Shelf("shop"), changed=lambda keys: None)


@pytest.fixture
def calls(monkeypatch):
    made = Calls()

    async def sight(self, namespaces):
        return None

    monkeypatch.setattr(Autoscaler, "_sight", sight)
    monkeypatch.setattr(autoscaler, "scale", made.scale)
    monkeypatch.setattr(autoscaler, "SCALE_EVERY", 3600)
    return made


def test_a_call_that_takes_its_time_delays_no_other_pool_and_is_the_only_one_about_its_own(calls):
    async def course():
        one = pools("slow", "quick")
        running = asyncio.ensure_future(one.run())
        for number in range(1, 4):
            one.work.set()
            await calls.count("quick", number)
        assert calls.begun.count("slow") == 1
        calls.released.set()
        await calls.count("slow", 2)  # what was left out meanwhile, though there is no other reason to look
        running.cancel()

    asyncio.run(course())


def test_so_many_calls_at_once_and_no_more(calls, monkeypatch):
    monkeypatch.setattr(autoscaler, "AT_ONCE", 1)

    async def course():
        one = pools("slow", "quick")
        running = asyncio.ensure_future(one.run())
        one.work.set()
        await calls.count("slow", 1)
        for _ in range(3):
            await asyncio.sleep(0)
        assert calls.begun == ["slow"]
        calls.released.set()
        await calls.count("quick", 1)
        running.cancel()

    asyncio.run(course())


def test_what_is_under_way_ends_with_the_lead(calls):
    async def course():
        one = pools("slow")
        running = asyncio.ensure_future(one.run())
        one.work.set()
        await calls.count("slow", 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(asyncio.all_tasks()) == 1, "only this one is left"

    asyncio.run(course())
