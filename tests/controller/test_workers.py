"""Steps of a whole pool against a server in memory: what belongs to others is told, left alone and not asked for again."""

import asyncio
from typing import Any

import pytest

from controller.ground import Ground
from fibflow.store.database import Database
from fibflow.store.synced import Name
from fibflow_operator import deployment
from fibflow_operator.plan import Standing
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.tending import Tending
from fibflow_operator.world import Key, Kind, World, seen
from fibflow_operator.writing import Writer
from fibflow_operator.yard import deployment as read

POOL: dict[str, Any] = {
    "metadata": {"name": "pool", "namespace": "shop", "uid": "u1", "resourceVersion": "1"},
    "kind": "WorkerPool",
}
KEY, PLACE = Key(Kind.WORKER_POOL, "shop", "pool"), Name("shop", "pool-pool")


class Stage:
    """A leader that knows of one pool, and of what there was on the ground when it began."""

    def __init__(self, *named: str) -> None:
        self.ground = Ground()
        self.pool = seen({**POOL, "spec": {"app": "a:b", "image": "i:1"}})
        fleet = deployment.fleet_of(self.pool)
        for place in named:
            body = {"deployments": deployment.seed(fleet), "budgets": deployment.applied_budget(fleet)}[place]
            metadata = {"resourceVersion": "3", "generation": 1, "uid": "x", **body["metadata"], "ownerReferences": []}
            getattr(self.ground, place)[PLACE] = {**body, "metadata": metadata}
        writer = Writer(Database("sqlite://"), "test/fibflow", "me", 0, confirm=self._confirm)
        self.scene = Scene(World(), writer)
        self.scene.world.see(self.pool)
        self.scene.standings[KEY] = Standing()
        self.tending = Tending(self.scene, self.ground, changed=lambda keys: None)

    async def _confirm(self) -> bool:
        return True

    def know(self) -> None:
        """Lists came that have only what has our label, which is nothing."""
        self.tending.see_deployments("shop", 1, [])
        self.tending.see_budgets("shop", 1, [])

    async def tend(self) -> list[str]:
        """Work off what waits; what was done."""
        self.ground.done.clear()
        for key in self.tending.workers.take(10):
            await self.tending._tend(key)
        return list(self.ground.done)


def test_nothing_is_made_before_it_is_known_what_there_is():
    async def course():
        stage = Stage()
        stage.tending.see_deployments("shop", 1, [])
        assert await stage.tend() == []
        stage.tending.see_budgets("shop", 1, [])
        assert await stage.tend() == ["create", "create budget", "apply"]

    asyncio.run(course())


@pytest.mark.parametrize(("place", "done"), [("deployments", ["create"]), ("budgets", ["create", "create budget"])])
def test_what_has_our_name_and_is_not_ours_is_told_and_asked_for_again_after_a_comparison_only(place, done):
    async def course():
        stage = Stage(place)
        stage.know()
        assert await stage.tend() == done
        assert stage.scene.refused[KEY].reason == "NameTaken"
        assert "belongs to somebody else" in stage.scene.refused[KEY].message
        assert stage.tending.workers.retrying == 0
        stage.tending.try_again()
        assert (await stage.tend())[-1] == done[-1]
        del getattr(stage.ground, place)[PLACE]
        stage.tending.try_again()
        assert (await stage.tend())[-1] == "apply" and stage.scene.refused == {}

    asyncio.run(course())


def test_a_budget_that_is_deleted_is_made_again_when_that_is_told():
    async def course():
        stage = Stage()
        stage.know()
        await stage.tend()
        stage.tending.see_budget("DELETED", stage.ground.budgets.pop(PLACE))
        assert await stage.tend() == ["create budget"]

    asyncio.run(course())


def test_that_a_budget_counts_otherwise_is_nothing_to_do():
    async def course():
        stage = Stage()
        stage.know()
        await stage.tend()
        raw = stage.ground.budgets[PLACE]
        stage.tending.see_budget("MODIFIED", {**raw, "metadata": {**raw["metadata"], "resourceVersion": "9"}})
        assert stage.tending.workers.take(10) == []

    asyncio.run(course())


@pytest.mark.parametrize("now", [None, "another"])
def test_a_deployment_that_is_gone_or_another_by_now_is_not_applied(now):
    async def course():
        stage = Stage()
        stage.know()
        await stage.tend()
        raw = stage.ground.deployments.pop(PLACE)
        if now is not None:
            stage.ground.deployments[PLACE] = {**raw, "metadata": {**raw["metadata"], "uid": now}}
        before = dict(stage.ground.deployments)
        stage.scene.world.see(
            seen(
                {
                    **POOL,
                    "metadata": {**POOL["metadata"], "resourceVersion": "2", "generation": 2},
                    "spec": {"app": "a:b", "image": "i:2"},
                }
            )
        )
        stage.tending.workers.add([KEY])
        assert await stage.tend() == ["apply"]
        assert stage.ground.deployments == before

    asyncio.run(course())


def test_an_answer_that_comes_after_the_news_of_the_end_brings_nothing_back():
    stage = Stage("deployments")
    answer = {**stage.ground.deployments[PLACE], "spec": {"replicas": 1}}
    gone = {**answer, "metadata": {**answer["metadata"], "resourceVersion": "4"}}
    stage.tending.see_deployment("DELETED", gone)
    stage.scene.yard.deployments.see(read(answer))
    assert PLACE not in stage.scene.yard.deployments


def test_a_budget_that_changes_its_owner_is_looked_at():
    async def course():
        stage = Stage()
        stage.know()
        await stage.tend()
        raw, owners = stage.ground.budgets[PLACE], [{"uid": "another", "controller": True}]
        metadata = {**raw["metadata"], "resourceVersion": "9", "ownerReferences": owners}
        stage.tending.see_budget("MODIFIED", {**raw, "metadata": metadata})
        assert stage.tending.workers.take(10) == [KEY]

    asyncio.run(course())
