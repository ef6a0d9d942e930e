"""Parents and children: who waits for whom, and what a parent sees when it goes on."""

import pytest

from fibflow import Status, child
from fibflow.errors import IllegalTransition
from fix_semantics import Gate, serving, until


def results(ctx):
    return [part.result for part in ctx.children]


def spawning(*stages, then=results):
    """A parent that spawns these lists of children, one a stage, and returns what it sees then."""

    async def parent(ctx, payload):
        return ctx.spawn(stages[ctx.stage]) if ctx.stage < len(stages) else then(ctx)

    return parent


async def echo(ctx, n):
    return n


def kids(*payloads, **options):
    return [child("kid", {"n": payload}, **options) for payload in payloads]


def test_a_parent_resumes_once_when_its_last_child_is_final(workplace):
    gates = [Gate(), Gate()]

    async def kid(ctx, n):
        await gates[n].passed()
        return n

    workplace.start(serving(parent=spawning(kids(0, 1)), kid=kid), slots=2)
    parent = workplace.client.enqueue("parent")
    for gate in gates:
        gate.reached()  # in both slots, so the parent holds none
    waiting = workplace.client.get(parent)
    assert (waiting.status, waiting.children, waiting.open_children) == (Status.SUSPENDED, 2, 2)
    gates[1].open()
    until(lambda: workplace.client.get(parent).open_children == 1)
    assert workplace.client.get(parent).status is Status.SUSPENDED
    gates[0].open()
    done = workplace.ended(parent)
    assert (done.status, done.stage, done.attempt, done.result) == (Status.COMPLETED, 1, 2, [0, 1])
    (resumed,) = workplace.client.events(parent, types=["task_resumed"]).items
    last = workplace.client.get(workplace.children(parent)[0])
    assert resumed.time == done.run_at == last.finished_at


def test_a_workflow_goes_on_at_once_however_seldom_its_worker_polls(workplace):
    async def flaky(ctx, n):
        if ctx.attempt == 1:
            raise RuntimeError("once")
        return n

    app = serving(parent=spawning(kids(1, 2), kids(3)), kid=flaky)
    app.sync(workplace.database)
    parent = workplace.client.enqueue("parent")
    workplace.start(app, poll_interval=3600)
    assert workplace.ended(parent).result == [3]


def test_a_parent_gets_results_and_errors_in_the_order_of_ids(workplace):
    gate = Gate()

    async def broken(ctx, payload):
        if ctx.failures:
            await gate.passed()
        raise RuntimeError("broken on purpose")

    def seen(ctx):
        return [[part.id, part.name, part.status, part.result, part.error] for part in ctx.children]

    parts = [*kids("first"), child("broken", max_attempts=2), *kids("last")]
    workplace.start(serving(parent=spawning(parts, then=seen), kid=echo, broken=broken))
    parent = workplace.client.enqueue("parent")
    gate.reached()  # the second attempt of the broken child
    until(lambda: workplace.client.get(parent).open_children == 1)
    assert workplace.client.get(parent).status is Status.SUSPENDED
    gate.open()
    done = workplace.ended(parent)
    assert done.status is Status.COMPLETED
    first, failed, last = done.result
    ids = workplace.children(parent)
    assert first == [ids[0], "kid", "completed", "first", None]
    assert last == [ids[2], "kid", "completed", "last", None]
    assert failed[:4] == [ids[1], "broken", "permanently_failed", None]
    assert "Traceback" in failed[4] and "broken on purpose" in failed[4]
    (resumed,) = workplace.client.events(parent, types=["task_resumed"]).items
    assert resumed.time == workplace.client.get(ids[1]).finished_at


def test_each_generation_brings_its_own_results(workplace):
    seen = []

    async def parent(ctx, payload):
        seen.append([part.result for part in ctx.children])
        return ctx.spawn([kids("a\nb", {"c": [1]}), kids(3)][ctx.stage]) if ctx.stage < 2 else "done"

    workplace.start(serving(parent=parent, kid=echo))
    done = workplace.outcome("parent")
    assert seen == [[], ["a\nb", {"c": [1]}], [3]]
    assert done.children == 1
    assert len(workplace.children(done.id)) == 3
    attempts = workplace.client.attempts(done.id).items
    assert [(attempt.stage, attempt.outcome) for attempt in attempts] == [(0, "suspended"), (1, "suspended"), (2, "completed")]


def test_workflows_nest_to_any_depth(workplace):
    async def nested(ctx, depth):
        if depth and ctx.stage == 0:
            return ctx.spawn([child("nested", {"depth": depth - 1})])
        return [ctx.root_id, ctx.parent_id, *(part.result for part in ctx.children)]

    workplace.start(serving(nested=nested))
    done = workplace.outcome("nested", {"depth": 4})
    assert done.status is Status.COMPLETED
    tree = workplace.client.tasks(root_id=done.id).items
    assert [task.root_id for task in tree] == [done.id] * 5
    assert [task.parent_id for task in tree] == [None, *(task.id for task in tree[:-1])]
    assert done.result[:2] == [done.id, None]
    assert done.result[2][:2] == [done.id, done.id]


def test_a_retried_parent_spawns_anew(workplace):
    seen = []

    async def parent(ctx, payload):
        seen.append((ctx.stage, ctx.failures, [part.id for part in ctx.children]))
        if ctx.attempt in (1, 3):
            raise RuntimeError("broken on purpose")
        return ctx.spawn(kids(ctx.attempt)) if ctx.stage == 0 else "done"

    workplace.start(serving(parent=parent, kid=echo))
    done = workplace.outcome("parent", max_attempts=3)
    first, second = workplace.children(done.id)
    assert seen == [(0, 0, []), (0, 1, []), (1, 1, [first]), (0, 2, []), (1, 2, [second])]
    assert (done.status, done.failures, done.children) == (Status.COMPLETED, 2, 1)
    assert workplace.outcomes(done.id) == ["failed", "suspended", "failed", "suspended", "completed"]


def test_a_cancelled_child_counts_as_ended(workplace):
    gate = Gate()

    async def kid(ctx, n):
        await gate.passed()

    def seen(ctx):
        return [[part.status, part.result, part.error] for part in ctx.children]

    workplace.start(serving(parent=spawning(kids(1), then=seen), kid=kid))
    parent = workplace.client.enqueue("parent")
    gate.reached()
    workplace.client.cancel(workplace.children(parent)[0], "no longer wanted")
    done = workplace.ended(parent)
    assert (done.status, done.result) == (Status.COMPLETED, [["cancelled", None, "no longer wanted"]])


def test_a_parent_with_open_children_cannot_be_resumed(workplace):
    gate = Gate()

    async def kid(ctx, n):
        await gate.passed()

    workplace.start(serving(parent=spawning(kids(1, 2)), kid=kid))
    parent = workplace.client.enqueue("parent")
    gate.reached()
    first, second = workplace.children(parent)
    before = workplace.client.get(parent)
    with pytest.raises(IllegalTransition, match=f"children {first}, {second} are open"):
        workplace.client.resume(parent)
    assert workplace.client.get(parent) == before
    gate.open()
    workplace.ended(parent)
    assert workplace.events(parent).count("resumed") == 1


def test_children_of_a_final_parent_change_nothing_there(workplace):
    gate = Gate()

    async def kid(ctx, n):
        await gate.passed()

    workplace.start(serving(parent=spawning(kids(1)), kid=kid))
    parent = workplace.client.enqueue("parent")
    gate.reached()
    workplace.client.cancel(parent, "no longer wanted")
    before = workplace.client.audit(parent)
    gate.open()
    workplace.ended(workplace.children(parent)[0])
    assert workplace.client.audit(parent) == before


def test_a_child_of_an_older_generation_ends_no_wait_for_the_latest(workplace):
    gates = {1: Gate(), 2: Gate()}

    async def parent(ctx, payload):
        return ctx.spawn(kids(ctx.attempt)) if ctx.stage == 0 else results(ctx)

    async def kid(ctx, n):
        await gates[n].passed()
        return n

    workplace.start(serving(parent=parent, kid=kid))
    parent_id = workplace.client.enqueue("parent")
    gates[1].reached()
    workplace.client.cancel(parent_id, "to be started again")
    workplace.client.redrive(parent_id)
    gates[2].reached()
    older, _latest = workplace.children(parent_id)
    before = workplace.client.get(parent_id)
    gates[1].open()
    workplace.ended(older)
    assert workplace.client.get(parent_id) == before
    gates[2].open()
    assert workplace.ended(parent_id).result == [2]
