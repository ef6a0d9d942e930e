"""Handlers: what may be one, what its type's tasks get from it, and what changes when it is replaced or removed."""

import functools
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from fibflow import App, Client, NewTask, Options, Status, child
from fibflow.errors import InvalidInput, UnknownTaskType
from fibflow_worker.runtime import Settings, Worker
from fix_semantics import QUICK, Gate, serving, until

OPTIONS = {"timeout": 7.0, "max_attempts": 5, "backoff": 2.0, "backoff_factor": 3.0, "max_backoff": 9.0, "priority": 4}


async def echo(ctx, payload):
    return payload


def test_options_of_a_type_apply_to_its_tasks(workplace):
    app = App(timeout=11)

    @app.task("decorated", **OPTIONS, max_concurrent_tasks=2, description="Tells what it is told.")
    async def decorated(ctx, payload):
        return ["decorated", ctx.timeout, ctx.max_attempts, ctx.priority]

    async def added(ctx, payload):
        return ["added", ctx.timeout, ctx.max_attempts, ctx.priority]

    for name in ("added", "added_too"):
        app.add(name, added)
    workplace.start(app)
    done = workplace.outcome("decorated")
    assert done.result == ["decorated", 7.0, 5, 4]
    assert {name: getattr(done, name) for name in OPTIONS} == OPTIONS
    assert [workplace.outcome(name).result for name in ("added", "added_too")] == [["added", 11.0, 3, 0]] * 2
    assert workplace.client.type("decorated").max_concurrent_tasks == 2
    assert decorated.__name__ == "decorated"  # it stays what it was


def test_where_a_handler_runs_follows_from_what_it_is_or_is_told():
    def plain(ctx, payload):
        return None

    app = App()
    app.add("loop", echo)
    app.add("thread", plain)
    app.add("process", plain, run_in="process")
    assert {name: handler.run_in for name, handler in app.handlers.items()} == {name: name for name in app.handlers}
    with pytest.raises(InvalidInput, match="run_in: 'process' does not fit this function; it runs in the loop"):
        app.add("loop", echo, run_in="process")


NO_HANDLERS = {
    "a number": lambda app: app.add("wrong", 7),
    "nothing": lambda app: app.add("wrong", None),
    "an object": lambda app: app.add("wrong", {"handler": echo}),
    "a schema": lambda app: app.add("wrong", echo, parameters={"type": "object"}),
    "another schema": lambda app: app.add("wrong", echo, output={}),
    "a tag": lambda app: app.add("wrong", echo, tag="t"),
    "no attempts": lambda app: app.add("wrong", echo, max_attempts=0),
    "no name": lambda app: app.add(" ", echo),
    "no parentheses": lambda app: app.task(echo),
    "no context": lambda app: app.add("wrong", lambda: None),
    "a class that is built in": lambda app: app.add("wrong", int),
    "a field without a name": lambda app: app.add("wrong", lambda ctx, *fields: None),
    "a field that only has a place": lambda app: app.add("wrong", eval("lambda ctx, n, /: None")),
    "a field that no payload may have": lambda app: app.add("wrong", lambda ctx, _n: None),
    "a field whose name is taken": lambda app: app.add("wrong", lambda ctx, model_config: None),
    "a strange place": lambda app: app.add("wrong", echo, run_in="cloud"),
}


@pytest.mark.parametrize("what", NO_HANDLERS)
def test_something_that_is_no_handler_is_refused(what):
    app = serving(work=echo)
    before = app.handlers
    with pytest.raises(InvalidInput):
        NO_HANDLERS[what](app)
    assert app.handlers is before


def test_a_payload_is_checked_by_the_hints_of_its_handler(workplace):
    async def counting(ctx, n: int, unit: str = "apples"):
        return [n, unit]

    async def taking_all(ctx, n: int, **others: object):
        return [n, others]

    async def alone(ctx): ...

    workplace.start(serving(counting=counting, taking_all=taking_all, echo=echo, alone=alone))
    assert workplace.outcome("counting", {"n": 3}).result == [3, "apples"]
    assert workplace.outcome("taking_all", {"n": 3, "unit": "pears"}).result == [3, {"unit": "pears"}]
    assert workplace.outcome("echo", {"anything": [1]}).result == {"anything": [1]}
    for payload, said in (
        ({"n": "many"}, "n: 'many' does not fit the handler"),
        ({"n": 3, "m": 1}, "m: 1 does not fit"),
        (None, "payload: None does not fit the handler: give an object with its parameters: n"),
    ):
        wrong = workplace.outcome("counting", payload)
        assert (wrong.status, wrong.attempt) == (Status.PERMANENTLY_FAILED, 1)
        assert said in wrong.error
    assert "payload: None does not fit the handler: give an object; {} is one" in workplace.outcome("alone", None).error


class Adding:
    """A handler that is an object, with two more."""

    def __init__(self, more):
        self.more = more

    async def __call__(self, ctx, n: int):
        return n + self.more

    def method(self, ctx, n: int):
        return n - self.more


def test_a_handler_may_be_a_method_an_object_or_a_partial(workplace):
    async def sum_of(ctx, n: int, more: int = 0):
        return n + more

    app = serving(object=Adding(2), method=Adding(2).method, partial=functools.partial(sum_of, more=5))
    assert [handler.run_in for handler in app.handlers.values()] == ["loop", "thread", "loop"]
    workplace.start(app)
    assert [workplace.outcome(name, {"n": 1}).result for name in app.handlers] == [3, -1, 6]
    assert "n: 'x' does not fit" in workplace.outcome("object", {"n": "x"}).error


class Movie(BaseModel):
    title: str
    minutes: Annotated[int, Field(gt=0)]


def test_a_payload_as_a_whole_is_checked_by_its_hint(workplace):
    async def show(ctx, payload: Movie):
        return [type(payload).__name__, payload.minutes]

    async def count(ctx, payload: list[int]):
        return sum(payload)

    workplace.start(serving(show=show, count=count))
    assert workplace.outcome("show", {"title": "M", "minutes": 111}).result == ["Movie", 111]
    assert workplace.outcome("count", [1, 2]).result == 3
    for name, payload, said in (
        ("show", {"title": "M", "minutes": 0}, "payload.minutes: 0 does not fit the handler: Input should be greater than 0"),
        ("show", "M", "payload: 'M' does not fit the handler"),
        ("count", {"n": 1}, "payload: {'n': 1} does not fit the handler: Input should be a valid list"),
    ):
        wrong = workplace.outcome(name, payload)
        assert (wrong.status, wrong.attempt) == (Status.PERMANENTLY_FAILED, 1)
        assert said in wrong.error


def test_a_model_is_a_result_and_a_payload(workplace):
    async def longer(ctx, payload: Movie):
        return {"longer": [payload.model_copy(update={"minutes": payload.minutes + 1})]}

    workplace.start(serving(longer=longer))
    assert workplace.outcome("longer", Movie(title="M", minutes=111)).result == {"longer": [{"title": "M", "minutes": 112}]}


def test_the_bounds_of_a_hint_hold():
    def cut(ctx, minutes: Annotated[int, Field(gt=0)]): ...

    with pytest.raises(InvalidInput, match="minutes: 0 does not fit the handler: Input should be greater than 0"):
        serving(cut=cut).handlers["cut"].arguments({"minutes": 0})


def test_hints_that_only_a_type_checker_knows_are_left_alone_on_the_context_and_refused_on_the_payload():
    def knows_its_context(ctx: "Nowhere", n: "int") -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821

    def knows_its_payload(ctx, n: "Nowhere"): ...  # type: ignore[name-defined]  # noqa: F821

    assert serving(work=knows_its_context).handlers["work"].arguments({"n": "3"}) == {"n": 3}
    with pytest.raises(InvalidInput, match="has a type hint that cannot be used: name 'Nowhere' is not defined"):
        serving(work=knows_its_payload)


def test_a_partial_function_is_checked_by_its_hints_too():
    def cut(ctx, reel: int, *, at: "int"): ...

    assert serving(cut=functools.partial(cut, at=7)).handlers["cut"].arguments({"reel": "3", "at": "8"}) == {"reel": 3, "at": 8}


# ── at run time ───────────────────────────────────────────────────────────────────────────────────────────────────


async def act(number, gates, ctx, do):
    """Do as the payload says; handler 1 waits first, for the test to replace it."""
    if number == 1 and ctx.stage == 0 and do in gates:
        await gates[do].passed()
    if number == 1 and do == "fail":
        raise RuntimeError("broken on purpose")
    if ctx.stage == 0 and do == "ask":
        return ctx.suspend(reason="awaiting_approval")
    if ctx.stage == 0 and do == "spawn":
        return ctx.spawn([child("work", {"do": "tell"})])
    return [number, *(part.result for part in ctx.children)]


def test_a_replaced_handler_serves_the_next_attempt(workplace):
    gates, app = {do: Gate() for do in ("wait", "fail", "spawn")}, App()

    def use(number, **options):
        async def handler(ctx, do: str):
            return await act(number, gates, ctx, do)

        app.add("work", handler, **options)

    use(1)
    workplace.start(app)
    ids = {do: workplace.client.enqueue("work", {"do": do}) for do in ("wait", "fail", "spawn", "ask")}
    paused = workplace.client.enqueue("work", {"do": "tell"}, delay=3600)
    workplace.client.pause(paused)
    workplace.becomes(ids["ask"], Status.SUSPENDED)
    for gate in gates.values():
        gate.reached()
    use(2, timeout=33)
    until(lambda: workplace.client.type("work").options.timeout == 33)
    for gate in gates.values():
        gate.open()
    workplace.client.resume(ids["ask"])
    results = {do: workplace.ended(task_id).result for do, task_id in ids.items()}
    assert results == {"wait": [1], "fail": [2], "spawn": [2, [2]], "ask": [2]}
    workplace.client.resume(paused)
    workplace.move_clock(3600)
    assert workplace.ended(paused).result == [2]
    (spawned,) = workplace.client.tasks(parent_id=ids["spawn"]).items
    assert (spawned.timeout, workplace.client.get(ids["wait"]).timeout) == (33.0, 60.0)


def test_what_a_running_handler_registers_holds_for_the_children_that_it_spawns(workplace):
    async def first(ctx, payload):
        return "first"

    async def parent(ctx):
        if ctx.stage == 1:
            return [part.result for part in ctx.children]
        app.add("known", echo, timeout=33)
        app.add("new", echo, timeout=44)
        return ctx.spawn([child("known", 1), child("new", 2)])

    app = serving(parent=parent, known=first)
    app.sync(workplace.database)
    asked = workplace.client.enqueue("parent")
    workplace.start(app, poll_interval=60)
    assert workplace.ended(asked).result == [1, 2]
    assert [task.timeout for task in workplace.client.tasks(parent_id=asked).items] == [33.0, 44.0]


def test_a_removed_handler_finishes_its_attempt_and_gets_no_more(workplace):
    gate = Gate()

    async def held(ctx, payload):
        await gate.passed()
        return "finished"

    app = serving(held=held, other=echo, third=echo)
    worker = workplace.start(app)
    running = workplace.client.enqueue("held")
    gate.reached()
    assert [app.remove("held"), app.remove("held"), app.remove(["other", "third", "nobody"])] == [1, 0, 2]
    waiting = workplace.client.enqueue("held")
    gate.open()
    assert workplace.ended(running).result == "finished"
    workplace.beats(worker.worker_id)
    assert workplace.client.get(waiting).status is Status.PENDING
    peer = workplace.start(serving(held=held))
    assert workplace.ended(waiting).worker_id == peer.worker_id
    workplace.stop(peer)
    later = workplace.client.enqueue("held")
    app.add("held", held)
    assert workplace.ended(later).worker_id == worker.worker_id


def test_registering_does_not_resume_a_paused_worker(workplace):
    app = serving(work=echo)
    worker = Worker(app, workplace.connections(), Settings(**QUICK))
    worker.pause()
    workplace.run(worker)
    app.add("added", echo)
    app.sync(workplace.database)
    ids = workplace.client.enqueue_many([NewTask("work"), NewTask("added")])
    app.remove("work")
    app.add("work", echo)
    workplace.beats(worker.worker_id)
    assert [workplace.client.get(task_id).status for task_id in ids] == [Status.PENDING] * 2
    workplace.tell(worker.resume)
    assert [workplace.ended(task_id).status for task_id in ids] == [Status.COMPLETED] * 2


def test_a_type_tells_its_description(workplace):
    app = serving(plain=echo)
    app.add("described", functools.partial(echo), description="Tells what it is told.", timeout=7)
    app.sync(workplace.database)
    described, plain = workplace.client.type("described"), workplace.client.type("plain")
    assert (described.name, described.description, described.options) == (
        "described",
        "Tells what it is told.",
        Options(timeout=7.0),
    )
    assert (plain.name, plain.description, plain.options, plain.source) == ("plain", None, Options(), "code")
    assert workplace.client.types() == [described, plain]
    assert not [name for name in described.__dataclass_fields__ if "schema" in name]
    with pytest.raises(UnknownTaskType, match="'nobody' is not a task type of namespace 'default'"):
        workplace.client.type("nobody")
    elsewhere = Client(workplace.connections("elsewhere"))
    with pytest.raises(UnknownTaskType):
        elsewhere.type("plain")
    elsewhere.database.close()
