"""When an operator should be restarted: a loop or a watch that does not go on; and when not: a database that is away."""

import asyncio
import threading
from typing import Any

import kopf
import pytest
from prometheus_client import REGISTRY

from controller.shelf import Shelf
from fibflow.errors import DatabaseUnavailable
from fibflow.scaling import Rule
from fibflow_operator import resource_watch
from fibflow_operator.autoscaler import Autoscaler
from fibflow_operator.comparison import Hearing
from fibflow_operator.health import LEFT_LYING, LONGEST_ROUND, Health, Rounds, left_lying
from fibflow_operator.kube import informer
from fibflow_operator.kube.informer import Informer
from fibflow_operator.leading import Leading
from fibflow_operator.resource_watch import ResourceWatch
from fibflow_operator.verdict import Standing
from fibflow_operator.worker_controller import WorkerController
from fibflow_operator.world import Key, Kind, seen

ANYBODY: Any = None
"""Nobody is asked who we are where kopf does nothing."""


METADATA = {"name": "pool", "namespace": "shop", "uid": "u1", "resourceVersion": "1"}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_round_that_lasts_is_told_of_and_one_that_ended_is_not():
    clock = Clock()
    rounds = Rounds(clock)
    with rounds.at("look"):
        clock.now += LONGEST_ROUND
        assert rounds.complaints() == []
        clock.now += 1
        assert rounds.complaints() == ["look: a round has lasted for 601 s"]
    assert rounds.complaints() == []


def test_a_queue_from_which_nobody_takes_is_told_of():
    assert left_lying({"rows": LEFT_LYING, "pods": LEFT_LYING + 1}) == ["pods: no key has been taken for 151 s"]


def test_an_event_loop_that_stands_still_is_told_of(monkeypatch):
    health = Health(lambda: ["more"])
    assert health.complaints() == ["more"]
    health._turned -= 16
    assert health.complaints() == ["the event loop has not turned for 16 s", "more"]


class Away:
    """A writer whose database is away until it is let come."""

    def __init__(self):
        self.tried, self.there = asyncio.Event(), asyncio.Event()

    async def take(self):
        self.tried.set()
        if not self.there.is_set():
            raise DatabaseUnavailable("the database is not available")
        raise asyncio.CancelledError


def test_nothing_is_told_of_before_the_lead_is_taken(monkeypatch):
    """What were told would lie as long as the database is away, and that is no reason to be restarted."""
    followed: list[Any] = []

    async def scene():
        writer: Any = Away()
        leading = Leading(writer, Shelf("shop"), ["shop"], follow=followed.append)
        running = asyncio.ensure_future(leading.run())
        await writer.tried.wait()
        assert followed == [] and leading.complaints() == []
        running.cancel()

    asyncio.run(scene())


def test_what_lies_untaken_when_a_lead_ends_is_told_of_no_more():
    async def scene():
        writer: Any = Away()
        leading = Leading(writer, Shelf("shop"), ["shop"])
        running = asyncio.ensure_future(leading.run())
        await writer.tried.wait()
        leading.rows.add([Key(Kind.TASK_TYPE, "shop", "work")])
        assert _told("fibflow_operator_queue") == 1 and _told("fibflow_operator_queue_oldest_seconds") > 0
        running.cancel()
        await asyncio.wait([running])
        assert _told("fibflow_operator_queue") == _told("fibflow_operator_queue_oldest_seconds") == 0

    asyncio.run(scene())


def _told(name):
    return REGISTRY.get_sample_value(name, {"stage": "rows"})


def test_a_watch_whose_loop_stands_still_is_not_alive(monkeypatch):
    stood, go_on = threading.Event(), threading.Event()

    async def stand(**settings):
        stood.set()
        go_on.wait(30)

    monkeypatch.setattr(kopf, "operator", stand)
    watch = ResourceWatch(ANYBODY, ["shop"], lambda *event: None)
    assert not watch.alive
    watch.start()
    assert stood.wait(10) and watch.alive
    monkeypatch.setattr(resource_watch, "LOOP_TURNS", 0.0)
    assert not watch.alive
    go_on.set()
    watch.stop()


def test_a_watch_that_is_renewed_lets_the_old_one_tell_nothing_more(monkeypatch):
    begun: list[threading.Event] = []
    told = []
    more = threading.Semaphore(0)

    async def operate(stop_flag, registry, **settings):
        begun.append(stop_flag)
        more.release()
        while not stop_flag.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(kopf, "operator", operate)
    watch = ResourceWatch(ANYBODY, ["shop"], lambda *event: told.append(event))
    watch.start()
    assert more.acquire(timeout=10)
    old = watch._handler(Kind.TASK_TYPE, begun[0])
    watch.renew()
    assert more.acquire(timeout=10)
    asyncio.run(old(event={"type": "ADDED", "object": {}}))
    assert begun[0].is_set() and not begun[1].is_set() and watch.alive and told == []
    watch.stop()


def test_a_watch_is_dead_that_told_of_nothing_while_list_after_list_found_changes():
    hearing = Hearing()
    assert [hearing.is_dead(True) for _ in range(4)] == [False, False, True, False]
    hearing.heard += 1
    assert [hearing.is_dead(changes) for changes in (True, True, True, False, True)] == [False, False, False, False, True]


def test_an_informer_that_gets_no_answer_any_more_is_not_alive(monkeypatch):
    asked, go_on = threading.Event(), threading.Event()

    class Stuck:
        def call(self, *request):
            asked.set()
            go_on.wait(30)
            return {"metadata": {"resourceVersion": "1"}, "items": []}

        def lines(self, *request):
            return iter(())

    stuck: Any = Stuck()
    following = Informer(stuck, "/pods", "", Ignoring())
    following.start()
    assert asked.wait(10) and following.alive
    monkeypatch.setattr(informer, "DEAF", 0.0)
    assert not following.alive
    following.stop()
    go_on.set()


class Ignoring:
    def whole(self, version, objects, begun):
        pass

    def event(self, type_, object_):
        pass


LOOPS = {
    "workers WorkerPool/shop/pool": (WorkerController, "_reconcile", lambda leading: leading.controller.reconcile_workers()),
    "pod u1": (WorkerController, "_recover", lambda leading: leading.controller.recover_pods()),
    "scaling": (Autoscaler, "_sight", lambda leading: leading.autoscaler.run()),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_hangs_is_told_of(loop, monkeypatch):
    owner, work, run = LOOPS[loop]
    hangs = asyncio.Event()

    async def hang(self, told):
        hangs.set()
        await asyncio.Event().wait()

    async def scene():
        clock, writer = Clock(), Away()
        leading = Leading(writer, Shelf("shop"), ["shop"], rounds=Rounds(clock))  # type: ignore[arg-type]
        pool = seen({"kind": "WorkerPool", "metadata": METADATA, "spec": {"app": "a:b", "image": "i:1"}})
        leading.world.see(pool)
        leading.scene.standings[pool.key] = Standing(edition=pool.edition, rule=Rule())
        leading.controller.workers.add([pool.key])
        leading.controller.pods.add(["u1"])
        running = asyncio.ensure_future(run(leading))
        await asyncio.wait_for(hangs.wait(), 10)
        clock.now += LONGEST_ROUND + 1
        assert leading.complaints() == [f"{loop}: a round has lasted for 601 s"]
        running.cancel()

    monkeypatch.setattr(owner, work, hang)
    asyncio.run(scene())
