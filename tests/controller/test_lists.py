"""Whole lists of a server, or of a proxy before it, that answers oddly: what is no list deletes nothing, and is tried again."""

import asyncio
import threading
from typing import Any

import pytest

from fibflow.store.database import Database
from fibflow_operator.comparison import listed
from fibflow_operator.kube import resources
from fibflow_operator.kube.api import ApiRefused, ApiUnavailable
from fibflow_operator.kube.informer import Informer
from fibflow_operator.kube.leases import Leases
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.world import Key, Kind, World, seen
from fibflow_operator.writing import Writer

KNOWN = {"metadata": {"name": "known", "namespace": "shop", "uid": "u1", "resourceVersion": "1"}, "spec": {"app": "a:b"}}
KEY = Key(Kind.WORKER_POOL, "shop", "known")
ODD: dict[str, Any] = {
    "nothing": {},
    "no items": {"metadata": {"resourceVersion": "7"}},
    "no metadata": {"items": []},
    "no version": {"metadata": {}, "items": []},
    "a version that is no number": {"metadata": {"resourceVersion": "new"}, "items": []},
    "metadata that are none": {"metadata": None, "items": []},
    "items that are no list": {"metadata": {"resourceVersion": "7"}, "items": {"a": 1}},
}
ODD_ITEMS = {"an item that is none": [None], "an item without a name": [{"metadata": {}}]}
FIRST = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": []}


def ignored(found: object) -> None:
    """For whom only the whole list counts."""


class Answering:
    """A server that gives these answers, one a call, the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def call(self, method, path, query=None, *more, **named):
        self.asked.append(query)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def lines(self, *request):
        return iter(())


class Lists:
    def __init__(self, api: Any) -> None:
        self.api = api

    async def list_all(self, kind, namespace, some):
        return resources.list_all(self.api, kind, namespace, some)


def knowing() -> Scene:
    world = World()
    world.see(seen({"kind": "WorkerPool", **KNOWN}))

    async def confirm() -> bool:
        return True

    return Scene(world, Writer(Database("sqlite://"), "test/fibflow", "me", 0, confirm=confirm))


CASES = {**ODD, **{name: {"metadata": {"resourceVersion": "7"}, "items": items} for name, items in ODD_ITEMS.items()}}


@pytest.mark.parametrize("odd", CASES)
@pytest.mark.parametrize("before", [[], [FIRST]], ids=["first page", "second page"])
def test_an_odd_page_is_a_list_that_failed_and_deletes_nothing(odd, before):
    scene = knowing()
    odd_then_well = Lists(Answering(*before, CASES[odd], {"metadata": {"resourceVersion": "8"}, "items": None}))
    assert asyncio.run(listed(scene, odd_then_well, Kind.WORKER_POOL, "shop", ignored)) is None
    assert scene.world.get(KEY) is not None and not scene.world.is_complete(KEY)
    assert asyncio.run(listed(scene, odd_then_well, Kind.WORKER_POOL, "shop", ignored)) == {KEY}
    assert scene.world.is_gone(KEY)


def test_an_odd_page_is_told_with_where_it_came_from_and_what_it_lacks():
    api: Any = Answering({"metadata": {"resourceVersion": "7"}})
    with pytest.raises(ApiUnavailable, match=r"namespaces/shop/workerpools answers is not understood \(KeyError: 'items'\)"):
        resources.list_all(api, Kind.WORKER_POOL, "shop", some=ignored)


def test_what_is_on_a_page_is_looked_at_before_the_next_one_comes():
    scene, looked_at = knowing(), list[Any]()
    new = {**KNOWN, "metadata": {**KNOWN["metadata"], "name": "new", "resourceVersion": "6"}}
    broken = Lists(Answering({**FIRST, "items": [new]}, {"metadata": {}}))
    assert asyncio.run(listed(scene, broken, Kind.CRON_TASK, "shop", looked_at.append)) is None
    assert looked_at == [{Key(Kind.CRON_TASK, "shop", "new")}]


def test_of_types_the_first_page_is_not_looked_at_alone_for_an_older_one_may_claim_the_same_name():
    def claiming(name: str, created: str) -> dict[str, Any]:
        metadata = {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "6", "creationTimestamp": created}
        return {"metadata": metadata, "spec": {"name": "mail"}}

    scene, looked_at = knowing(), list[Any]()
    last = {"metadata": {"resourceVersion": "7"}, "items": [claiming("old", "1")]}
    two_pages = Lists(Answering({**FIRST, "items": [claiming("heir", "2")]}, last))
    asyncio.run(listed(scene, two_pages, Kind.TASK_TYPE, "shop", looked_at.append))
    assert looked_at == [{Key(Kind.TASK_TYPE, "shop", "heir"), Key(Kind.TASK_TYPE, "shop", "old")}]


def test_a_list_of_many_pages_is_told_whole():
    second = {"metadata": {"resourceVersion": "7"}, "items": [KNOWN]}
    api: Any = Answering(FIRST, second)
    assert [each.key for each in resources.list_all(api, Kind.WORKER_POOL, "shop", some=ignored).resources] == [KEY]
    assert api.asked == [{"limit": "500"}, {"limit": "500", "continue": "more"}]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_followed_is_not_told_as_gone_by_an_odd_page(odd):
    told: list[Any] = []
    heard = threading.Event()

    class Hearing:
        def whole(self, version, objects, begun):
            told.append((version, objects))
            heard.set()

        def event(self, type_, object_):
            pass

    api: Any = Answering(ODD[odd], {"metadata": {"resourceVersion": "8"}, "items": [KNOWN]})
    informer = Informer(api, "/pods", "", Hearing())
    informer.start()
    assert heard.wait(10)
    informer.stop()
    assert told[0] == (8, [KNOWN])


class Once(threading.Event):
    """A pause is noted, and is the last."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: float | None = None

    def wait(self, timeout=None):
        self.paused = timeout
        self.set()
        return True


class Refusing(Answering):
    def call(self, *request, **named):
        raise self.answers[0]


@pytest.mark.parametrize(
    ("api", "least", "most"),
    [
        (Answering({"metadata": {"resourceVersion": "7"}, "items": []}), 0.5, 1.0),  # its watch ends as soon as it began
        (Refusing(ApiRefused(429, "too many requests", retry_after=7.0)), 7.0, 7.0),
        (Refusing(ApiRefused(429, "too many requests", retry_after=7000.0)), 60.0, 60.0),
        (Refusing(ApiUnavailable("nobody answers")), 0.05, 0.1),
    ],
)
def test_an_informer_never_asks_without_a_pause_and_waits_as_long_as_the_server_asks_for(api, least, most):
    informer, once = Informer(api, "/pods", "", Ignoring()), Once()
    informer._stop = once
    informer._run()
    assert once.paused is not None and least <= once.paused <= most


class Ignoring:
    def whole(self, version, objects, begun):
        pass

    def event(self, type_, object_):
        pass


@pytest.mark.parametrize("odd", ["nothing", "no version", "metadata that are none"])
def test_a_lease_that_is_none_is_no_answer(odd):
    api: Any = Answering(ODD[odd])
    with pytest.raises(ApiUnavailable, match="not understood"):
        Leases(api, "shop", "lead", 10).read()
