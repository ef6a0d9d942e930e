"""What a spec says of workers, through all of reconciling: they come, go, and are scaled as the last accepted one says."""

import asyncio

import pytest

from controller.shelf import Shelf
from controller.stage import condition, numbers, played, see_the_ground, stage
from fibflow.errors import DatabaseUnavailable
from fibflow.store.synced import Name, stored_types
from fibflow_operator.world import Kind


def test_workers_of_a_types_own_come_with_what_it_says_of_them_and_go_without(url):
    async def play(one):
        one.leading.scene.cache.deployments.see_all(one.shelf.namespace, 0, [])
        one.leading.scene.cache.budgets.see_all(one.shelf.namespace, 0, [])
        one.leading.controller.see_pods(one.shelf.namespace, 0, [], 0.0)
        one.shelf.put(Kind.WORKER_POOL, "pool", {"app": "a:b"})
        one.shelf.put(Kind.TASK_TYPE, "one", {"worker": {"app": "a:b", "image": "i:1"}})
        await one.compare()
        await one.reconcile_workers()
        assert one.shelf.done == ["create", "create budget", "apply"]
        assert condition(one, Kind.TASK_TYPE, "one") == ("False", "WorkersStarting")
        assert condition(one, Kind.TASK_TYPE, "one", "ScalingActive") == ("False", "ReplicasDecide")
        assert (await pool_of(one)) == "TaskType.one"
        one.shelf.done.clear()
        one.shelf.put(Kind.TASK_TYPE, "one", {"workerPoolRef": {"name": "pool"}})
        await one.compare()
        await one.reconcile_workers()
        assert one.shelf.done == ["remove budget", "remove"] and not one.shelf.deployments
        assert condition(one, Kind.TASK_TYPE, "one") == ("True", "InForce")
        assert (await pool_of(one)) == "pool"
        assert "selector" not in one.shelf.status(Kind.TASK_TYPE, "one")

    played(url, play)


async def pool_of(stage):
    name = Name(stage.shelf.namespace, "one")
    return (await stage.database.run(stored_types, [name]))[name].pool


def test_a_deployment_of_somebody_else_outlives_a_type_without_workers(url):
    async def play(one):
        place = Name(one.shelf.namespace, "one-type")
        body = {"metadata": {"namespace": place.namespace, "name": place.name}, "spec": {}}
        one.leading.scene.cache.deployments.see_all(place.namespace, 0, [await one.shelf.create(place, body)])
        one.leading.scene.cache.budgets.see_all(place.namespace, 0, [await one.shelf.create_budget(place, body)])
        one.shelf.done.clear()
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        await one.compare()
        await one.reconcile_workers()
        assert one.shelf.done == []

    played(url, play)


class Scaled(Shelf):
    """Tells when anything was scaled."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.scaled = asyncio.Event()

    async def scale(self, seen, replicas):
        done = await super().scale(seen, replicas)
        self.scaled.set()
        return done

    def others_scale(self, replicas: int) -> None:
        """Somebody else scales the one Deployment that there is."""
        ((place, raw),) = self.deployments.items()
        self._put(self.deployments, place, {"metadata": {}, "spec": {**raw["spec"], "replicas": replicas}})
        self.done.clear()
        self.scaled.clear()


SPOILT = {
    "not a number": {"app": "a:b", "image": "i:1", "replicas": "many"},
    "no policy that there is": {"app": "a:b", "image": "i:1", "scaling": {"policy": ["Most"]}},
    "no object": {"app": "a:b", "image": "i:1", "scaling": 7},
    "beyond a bound": {"app": "a:b", "image": "i:1", "replicas": 10**30},
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("kind", [Kind.WORKER_POOL, Kind.TASK_TYPE])
def test_workers_are_scaled_as_the_last_spec_says_that_was_accepted_also_by_the_next_leader(url, kind, spoilt):
    async def says(one, workers):
        one.shelf.put(kind, "one", workers if kind is Kind.WORKER_POOL else {"worker": workers})
        one.leading.see(*one.shelf.events[-1])

    async def scales_to_three(one):
        one.shelf.others_scale(8)
        see_the_ground(one)
        scaling = asyncio.ensure_future(one.leading.autoscaler.run())
        one.leading.autoscaler.work.set()
        waiting = asyncio.ensure_future(one.shelf.scaled.wait())
        await asyncio.wait([waiting, scaling], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert one.shelf.done == ["scale 3"] and not scaling.done()
        scaling.cancel()

    async def play():
        async with stage(url, Scaled(f"space-{next(numbers)}")) as one:
            see_the_ground(one)
            await says(one, {"app": "a:b", "image": "i:1", "replicas": 3})
            await one.settle()
            await one.reconcile_workers()
            await says(one, spoilt)
            await scales_to_three(one)  # nobody has judged the newest spec yet
            await one.settle()
            assert condition(one, kind, "one", "Synced") == ("False", "LastGoodInForce")
            await scales_to_three(one)
            await one.begin()
            await one.compare()
            await scales_to_three(one)

    asyncio.run(play())


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_while_the_database_is_away_replicas_are_obeyed_unless_their_spec_is_refused(url, monkeypatch, spoilt):
    async def away(verb, *arguments):
        raise DatabaseUnavailable("the database is not available")

    async def says(one, spec):
        one.shelf.put(Kind.WORKER_POOL, "one", spec)
        one.leading.see(*one.shelf.events[-1])
        await one.leading.syncing.sync(one.leading.rows.take(10))
        return [each.wanted for each in one.leading.autoscaler.sizes()]

    async def play(one):
        monkeypatch.setattr(one.database, "run", away)
        assert await says(one, {"app": "a:b", "image": "i:1", "replicas": 3}) == [3]
        one.now += 100
        assert await says(one, spoilt) == [3]
        one.now += 100
        assert await says(one, {"app": "a:b", "image": "i:1", "replicas": 4}) == [4]

    played(url, play)
