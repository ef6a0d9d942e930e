"""When it is looked at how many workers there should be: nothing that the API server does slowly keeps anybody waiting."""

import asyncio
from types import SimpleNamespace

import pytest

from controller.shelf import Shelf
from fibflow.scaling import Rule
from fibflow_operator import sizing
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.sizing import SCALE_AT_MOST, SHARE, Sizing
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
        one = Sizing(scene, Shelf("shop"), changed=lambda keys: None)
        one.work.set()
        with pytest.raises(asyncio.CancelledError):
            await one.run()

    monkeypatch.setattr(Sizing, "_sight", sight)
    monkeypatch.setattr(sizing, "scale", scale)
    monkeypatch.setattr(sizing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("fibflow_operator.sizing.asyncio.sleep", sleep)
    asyncio.run(scene())
    assert paused == [pause]
