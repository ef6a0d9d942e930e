"""Steps of a whole pool against a server in memory: what belongs to others is told, left alone and not asked for again."""

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from controller.ground import Ground
from fibflow.store.database import Database
from fibflow.store.synced import Name
from fibflow_operator import deployment
from fibflow_operator.conditions import Finding
from fibflow_operator.fleet import fleet_of, rule_of
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.reasons import Reason, Type
from fibflow_operator.reconcile.subject import Report, Scene
from fibflow_operator.reconcile.worker_report import with_workers
from fibflow_operator.verdict import Standing
from fibflow_operator.worker_controller import WorkerController
from fibflow_operator.workload_cache import deployment as read
from fibflow_operator.world import Key, Kind, World, seen
from fibflow_operator.writing import Writer

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
        fleet = fleet_of(self.pool, rule_of(self.pool.spec))
        for place in named:
            body = {"deployments": deployment.seed(fleet), "budgets": deployment.applied_budget(fleet)}[place]
            metadata = {"resourceVersion": "3", "generation": 1, "uid": "x", **body["metadata"], "ownerReferences": []}
            getattr(self.ground, place)[PLACE] = {**body, "metadata": metadata}
        writer = Writer(Database("sqlite://"), "test/fibflow", "me", 0, confirm=self._confirm)
        self.scene = Scene(World(), writer)
        self.scene.world.see(self.pool)
        self.scene.standings[KEY] = Standing(edition=self.pool.edition, rule=rule_of(self.pool.spec))
        self.controller = WorkerController(self.scene, self.ground, changed=lambda keys: None)

    async def _confirm(self) -> bool:
        return True

    def change(self, spec: dict[str, Any], status: dict[str, Any] | None = None) -> None:
        """The pool says something else, and what it says is stored."""
        version = self.pool.version + 1
        metadata = {**POOL["metadata"], "resourceVersion": str(version), "generation": version}
        self.pool = seen({**POOL, "metadata": metadata, "spec": {"app": "a:b", **spec}, "status": status or {}})
        self.scene.world.see(self.pool)
        self.scene.standings[KEY] = Standing(edition=self.pool.edition, rule=rule_of(self.pool.spec))
        self.controller.synced([KEY])

    def ready(self) -> tuple[bool, str]:
        """What the pool's status says, all of whose pods are there and ready."""
        found = self.scene.cache.deployments.get(PLACE)
        if found is not None:
            up = replace(found, observed=found.generation, replicas=found.wanted, updated=found.wanted, ready=found.wanted)
            self.scene.cache.deployments[PLACE] = up
        stored = Report((Finding(Type.READY, True, Reason.IN_FORCE),))
        told = with_workers(self.scene, self.pool, stored).findings[0]
        return told.status, str(told.reason)

    def know(self, deployments: Sequence[Any] = (), budgets: Sequence[Any] = ()) -> None:
        """Lists came that have only what has our label, which is nothing or this."""
        self.controller.see_deployments("shop", 1, deployments)
        self.controller.see_budgets("shop", 1, budgets)
        self.controller.see_pods("shop", 1, [], 0.0)

    async def reconcile(self) -> list[str]:
        """Work off what waits; what was done."""
        self.ground.done.clear()
        for key in self.controller.workers.take(10):
            await self.controller._reconcile(key)
        return list(self.ground.done)


def test_nothing_is_made_before_it_is_known_what_there_is():
    async def course():
        stage = Stage()
        stage.controller.see_deployments("shop", 1, [])
        assert await stage.reconcile() == []
        stage.controller.see_budgets("shop", 1, [])
        assert await stage.reconcile() == ["create", "create budget", "apply"]

    asyncio.run(course())


OUR_LABELS = {"fibflow.dev/pool": "pool"}
WHOSE: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "somebody made it by hand": (
        {},
        {},
        "belongs to somebody else and is left alone; delete it, or give this resource another",
    ),
    "another program made it": (
        {},
        {"kind": "Application", "name": "web", "uid": "u9"},
        "belongs to Application web and is left alone; delete that one, or give this resource another name",
    ),
    "somebody made ours anew": (OUR_LABELS, {}, "has our label, and no resource of ours controls it any more; delete it"),
    "a former pool of this name left it": (
        OUR_LABELS,
        {"kind": "WorkerPool", "name": "pool", "uid": "u0"},
        "belongs to a former WorkerPool pool and goes with it; wait until",
    ),
}


@pytest.mark.parametrize("case", WHOSE)
@pytest.mark.parametrize(("place", "kind"), [("deployments", "Deployment"), ("budgets", "PodDisruptionBudget")])
def test_what_has_our_name_and_is_not_ours_is_told_with_whose_it_is_and_what_to_do(place, kind, case):
    labels, owner, says = WHOSE[case]

    async def course():
        stage = Stage(place)
        raw = getattr(stage.ground, place)[PLACE]
        raw["metadata"] |= {"labels": labels, "ownerReferences": [{**owner, "controller": True}] if owner else []}
        before = copy.deepcopy(raw)
        stage.know(**{place: [raw] if labels else []})
        await stage.reconcile()
        refused = stage.scene.refused[KEY]
        assert (refused.reason, refused.message.startswith(f"the {kind} pool-pool {says}")) == ("NameTaken", True), refused
        assert getattr(stage.ground, place)[PLACE] == before

    asyncio.run(course())


@pytest.mark.parametrize(
    ("place", "done"), [("deployments", ["create", "find"]), ("budgets", ["create", "create budget", "find budget"])]
)
def test_what_has_our_name_and_is_not_ours_is_asked_for_again_after_a_comparison_only(place, done):
    async def course():
        stage = Stage(place)
        stage.know()
        assert await stage.reconcile() == done
        assert stage.controller.workers.retrying == 0
        stage.controller.try_again()
        assert (await stage.reconcile())[-1] == done[-1]
        del getattr(stage.ground, place)[PLACE]
        stage.controller.try_again()
        assert (await stage.reconcile())[-1] == "apply" and stage.scene.refused == {}

    asyncio.run(course())


@pytest.mark.parametrize("place", ["deployments", "budgets"])
def test_what_is_ours_and_lost_its_label_gets_it_back(place):
    async def course():
        stage = Stage()
        stage.know()
        await stage.reconcile()
        raw = getattr(stage.ground, place)[PLACE]
        was, uid = raw["metadata"].pop("labels"), raw["metadata"]["uid"]
        raw["metadata"]["resourceVersion"] = "9"
        see = {"deployments": stage.controller.see_deployment, "budgets": stage.controller.see_budget}[place]
        see("DELETED", raw)  # to who follows a label, what it is taken off is gone
        assert (
            await stage.reconcile()
            == {
                "deployments": ["create", "find", "apply"],
                "budgets": ["create budget", "find budget", "apply budget"],
            }[place]
        )
        now_is = getattr(stage.ground, place)[PLACE]["metadata"]
        assert (now_is["labels"], now_is["uid"], stage.scene.refused) == (was, uid, {})

    asyncio.run(course())


BACKLOG = {"scaling": {"policy": "Backlog"}}


@pytest.mark.parametrize("answer", [403, 409, 500])
def test_what_is_refused_stays_told_until_a_retry_has_succeeded(answer, monkeypatch):
    async def course():
        stage, answers = Stage(), [403]
        apply, told = stage.ground.apply, []

        async def refusing(place, body):
            told.append(stage.ready())
            if answers:
                raise ApiRefused(answers.pop(), "no")
            return await apply(place, body)

        monkeypatch.setattr(stage.ground, "apply", refusing)
        stage.know()
        stage.change({"image": "i:1", **BACKLOG})
        await stage.reconcile()
        assert stage.ready() == (False, "DeploymentRefused")
        answers.append(answer)
        for _ in range(2):
            stage.controller.try_again()
            await stage.reconcile()
        assert told[1:] == [(False, "DeploymentRefused")] * 2
        assert stage.ready() == (True, "InForce")

    asyncio.run(course())


@pytest.mark.parametrize("scaling", [{}, BACKLOG])
def test_a_pool_is_not_ready_while_its_deployment_says_what_an_older_spec_said(scaling, monkeypatch):
    async def course():
        stage = Stage()
        stage.know()
        stage.change({"image": "i:1", "replicas": 0, **scaling})
        await stage.reconcile()
        assert stage.ready() == (True, "InForce")

        async def away(place, body):
            raise ApiRefused(500, "no")

        with monkeypatch.context() as patched:
            patched.setattr(stage.ground, "apply", away)
            stage.change({"image": "i:2", "replicas": 0, **scaling})
            await stage.reconcile()
        assert stage.ready() == (False, "WorkersStarting")
        stage.controller.workers.add([KEY])
        await stage.reconcile()
        assert stage.ready() == (True, "InForce")

    asyncio.run(course())


def test_nothing_is_told_of_workers_before_their_pods_are_known():
    """A pool that the backlog scales would be told to be ready, though no node can get its image."""
    told: list[Key] = []
    stage = Stage()
    stage.controller.changed = told.extend
    stage.controller.see_deployments("shop", 1, [])
    stage.controller.see_budgets("shop", 1, [])
    stored = Report((Finding(Type.READY, True, Reason.IN_FORCE),))
    assert with_workers(stage.scene, stage.pool, stored).findings == ()
    told.clear()
    stage.controller.see_pods("shop", 1, [], 0.0)
    assert told == [KEY] and stage.ready() == (False, "WorkersStarting")
    stage.controller.see_pods("shop", 2, [], 0.0)
    assert told == [KEY]


def test_the_last_decision_stays_told_until_a_new_leader_has_made_one():
    stage, told = Stage(), {"replicas": 3, "reason": "Demand"}
    stage.know()
    stage.change({"image": "i:1", **BACKLOG}, status={"scaling": told})
    stored = Report((Finding(Type.READY, True, Reason.IN_FORCE),))
    assert with_workers(stage.scene, stage.pool, stored).figures["scaling"] == told
    stage.scene.scaled[KEY] = {"replicas": 2, "reason": "Demand"}
    assert with_workers(stage.scene, stage.pool, stored).figures["scaling"] == stage.scene.scaled[KEY]
    stage.change({"image": "i:1"}, status={"scaling": told})
    assert "scaling" not in with_workers(stage.scene, stage.pool, stored).figures


def test_a_budget_that_is_deleted_is_made_again_when_that_is_told():
    async def course():
        stage = Stage()
        stage.know()
        await stage.reconcile()
        stage.controller.see_budget("DELETED", stage.ground.budgets.pop(PLACE))
        assert await stage.reconcile() == ["create budget"]

    asyncio.run(course())


def test_that_a_budget_counts_otherwise_is_nothing_to_do():
    async def course():
        stage = Stage()
        stage.know()
        await stage.reconcile()
        raw = stage.ground.budgets[PLACE]
        stage.controller.see_budget("MODIFIED", {**raw, "metadata": {**raw["metadata"], "resourceVersion": "9"}})
        assert stage.controller.workers.take(10) == []

    asyncio.run(course())


@pytest.mark.parametrize("now", [None, "another"])
def test_a_deployment_that_is_gone_or_another_by_now_is_not_applied(now):
    async def course():
        stage = Stage()
        stage.know()
        await stage.reconcile()
        raw = stage.ground.deployments.pop(PLACE)
        if now is not None:
            stage.ground.deployments[PLACE] = {**raw, "metadata": {**raw["metadata"], "uid": now}}
        before = dict(stage.ground.deployments)
        stage.change({"image": "i:2"})
        assert await stage.reconcile() == ["apply"]
        assert stage.ground.deployments == before

    asyncio.run(course())


def test_an_answer_that_comes_after_the_news_of_the_end_brings_nothing_back():
    stage = Stage("deployments")
    answer = {**stage.ground.deployments[PLACE], "spec": {"replicas": 1}}
    gone = {**answer, "metadata": {**answer["metadata"], "resourceVersion": "4"}}
    stage.controller.see_deployment("DELETED", gone)
    stage.scene.cache.deployments.see(read(answer))
    assert PLACE not in stage.scene.cache.deployments


def test_a_budget_that_changes_its_owner_is_looked_at():
    async def course():
        stage = Stage()
        stage.know()
        await stage.reconcile()
        raw, owners = stage.ground.budgets[PLACE], [{"uid": "another", "controller": True}]
        metadata = {**raw["metadata"], "resourceVersion": "9", "ownerReferences": owners}
        stage.controller.see_budget("MODIFIED", {**raw, "metadata": metadata})
        assert stage.controller.workers.take(10) == [KEY]

    asyncio.run(course())


@pytest.mark.parametrize("standing", [None, "older", "failed"])
def test_a_spec_whose_row_is_not_settled_changes_no_deployment(standing):
    async def course():
        stage = Stage()
        stage.know()
        await stage.reconcile()
        stage.change({"image": "i:2"})
        settled = stage.scene.standings[KEY]
        stage.scene.standings |= {KEY: replace(settled, failure="away") if standing == "failed" else Standing()}
        if standing is None:
            del stage.scene.standings[KEY]
        stage.controller.workers.add([KEY])
        assert await stage.reconcile() == []
        stage.scene.standings[KEY] = settled
        stage.controller.synced([KEY])
        assert await stage.reconcile() == ["apply"]

    asyncio.run(course())


def test_a_deployment_that_takes_long_to_make_holds_no_other_up(monkeypatch):
    async def course():
        stage, asked, go_on, other = Stage(), asyncio.Event(), asyncio.Event(), asyncio.Event()
        create = stage.ground.create

        async def slow_for_one(place, body):
            if place == PLACE:
                asked.set()
                await go_on.wait()
            else:
                other.set()
            return await create(place, body)

        monkeypatch.setattr(stage.ground, "create", slow_for_one)
        stage.know()
        running = asyncio.create_task(stage.controller.reconcile_workers())
        await asyncio.wait_for(asked.wait(), 10)
        metadata = {**POOL["metadata"], "name": "quick", "uid": "u2", "resourceVersion": "2"}
        quick = seen({**POOL, "metadata": metadata, "spec": stage.pool.spec})
        stage.scene.world.see(quick)
        stage.scene.standings[quick.key] = Standing(edition=quick.edition, rule=rule_of(quick.spec))
        stage.controller.synced([quick.key])
        await asyncio.wait_for(other.wait(), 10)
        go_on.set()
        running.cancel()

    asyncio.run(course())
