"""Tasks that wait for a person: how they come to wait, what they hold meanwhile, and how they go on or end."""

import pytest

from fibflow import Outcome, Status, child
from fibflow.errors import IllegalTransition
from fibflow.model import AWAITING_SUBTASKS
from fix_semantics import Gate, serving


async def ask(ctx, payload):
    """Waits for a person at stage 0, and tells at stage 1 what it was given."""
    if ctx.stage == 0:
        return ctx.suspend(reason="awaiting_approval", context=b"draft", metadata={"asked": "ada"})
    return [ctx.stage, ctx.attempt, ctx.failures, ctx.context.decode()]


async def echo(ctx, payload):
    return payload


def test_a_suspended_task_waits_and_holds_no_slot(workplace):
    async def forgetful(ctx, payload):
        ctx.suspend(reason="never_returned")
        ctx.spawn([child("echo")])
        return "done"

    workplace.start(serving(ask=ask, echo=echo, forgetful=forgetful), slots=1)
    task_id = workplace.client.enqueue("ask")
    waiting = workplace.becomes(task_id, Status.SUSPENDED)
    assert (waiting.suspend_reason, waiting.context, waiting.last_outcome) == ("awaiting_approval", b"draft", "suspended")
    assert (waiting.worker_id, waiting.deadline_at, waiting.failures) == (None, None, 0)
    (told,) = workplace.client.events(task_id, types=["task_suspended"]).items
    assert (told.from_status, told.to_status, told.message) == (Status.RUNNING, Status.SUSPENDED, "awaiting_approval")
    assert told.metadata["asked"] == "ada"
    assert workplace.outcomes(task_id) == ["suspended"]
    unreturned = workplace.outcome("forgetful")  # in the only slot
    assert (unreturned.status, unreturned.result) == (Status.COMPLETED, "done")
    assert workplace.client.tasks(parent_id=unreturned.id).total == 0
    assert workplace.client.get(task_id) == waiting


def test_a_suspended_task_neither_times_out_nor_is_pruned(workplace):
    workplace.start(serving(ask=ask, echo=echo))
    task_id = workplace.client.enqueue("ask", timeout=1)
    waiting = workplace.becomes(task_id, Status.SUSPENDED)
    workplace.move_clock(30 * 24 * 3600)
    for _ in range(2):
        workplace.outcome("echo")
    workplace.move_clock(3600)
    assert workplace.client.prune(age=60).tasks == 2
    assert workplace.client.get(task_id) == waiting


REFUSED = {
    "no reason": (lambda ctx: ctx.suspend(), "missing 1 required keyword-only argument: 'reason'"),
    "blank": (lambda ctx: ctx.suspend(reason="  "), "reason: '  ' is empty"),
    "no text": (lambda ctx: ctx.suspend(reason=7), "reason: 7 is not text"),
    "no bytes": (lambda ctx: ctx.suspend(reason="r", context="text"), "context: 'text' is not bytes"),
    "no object": (lambda ctx: ctx.suspend(reason="r", metadata=[1]), "metadata: [1] is not an object"),
}


def test_suspending_needs_a_reason_and_bytes_for_its_context(workplace):
    async def suspending(ctx, case):
        return REFUSED[case][0](ctx)

    workplace.start(serving(suspending=suspending))
    for case, (_, said) in REFUSED.items():
        done = workplace.outcome("suspending", {"case": case}, max_attempts=1)
        assert (done.status, done.last_outcome) == (Status.PERMANENTLY_FAILED, "failed")
        assert said in done.error


def test_the_reason_is_trimmed(workplace):
    async def suspending(ctx, payload):
        return ctx.suspend(reason=" awaiting_approval\n")

    workplace.start(serving(suspending=suspending))
    task_id = workplace.client.enqueue("suspending")
    assert workplace.becomes(task_id, Status.SUSPENDED).suspend_reason == "awaiting_approval"


def test_resuming_a_suspended_task_starts_its_next_stage_with_its_context(workplace):
    async def flaky(ctx, payload):
        if ctx.attempt == 1:
            raise RuntimeError("broken on purpose")
        if ctx.stage < 2:
            return ctx.suspend(reason="awaiting_approval", context=[b"draft", None][ctx.stage])
        return [ctx.stage, ctx.attempt, ctx.failures, ctx.context.decode()]

    workplace.start(serving(flaky=flaky))
    task_id = workplace.client.enqueue("flaky")
    for stage in (0, 1):
        waiting = workplace.becomes(task_id, Status.SUSPENDED)
        assert (waiting.stage, waiting.context) == (stage, b"draft")
        workplace.client.resume(task_id, reason="approved")
    assert workplace.ended(task_id).result == [2, 4, 1, "draft"]
    first, _ = workplace.client.events(task_id, types=["task_resumed"]).items
    assert (first.from_status, first.to_status, first.message) == (Status.SUSPENDED, Status.PENDING, "approved")


def test_a_resumed_task_is_due_at_once(workplace):
    serving(ask=ask).sync(workplace.database)
    worker = workplace.registered()
    row = workplace.taken(worker, "ask")
    workplace.settled(worker, row, Outcome.SUSPENDED, suspend_reason="awaiting_approval")
    workplace.move_clock(3600)
    workplace.client.resume(row.id)
    resumed = workplace.client.get(row.id)
    assert (resumed.status, resumed.suspend_reason) == (Status.PENDING, None)
    assert (resumed.run_at - resumed.created_at).total_seconds() >= 3600
    assert [again.stage for again in workplace.claimed(worker, "ask")] == [1]


def test_suspended_tasks_are_listed_by_reason(workplace):
    gate = Gate()

    async def asked_before(ctx, payload):
        if ctx.stage == 0:
            return ctx.suspend(reason="awaiting_approval")
        return ctx.spawn([child("kid")]) if ctx.stage == 1 else "done"

    async def kid(ctx, payload):
        await gate.passed()

    def listed(reason):
        return [task.id for task in workplace.client.tasks(status="suspended", suspend_reason=reason).items]

    workplace.start(serving(ask=ask, asked_before=asked_before, kid=kid))
    asking, parent = workplace.client.enqueue("ask"), workplace.client.enqueue("asked_before")
    workplace.becomes(asking, Status.SUSPENDED)
    workplace.becomes(parent, Status.SUSPENDED)
    assert listed("awaiting_approval") == [asking, parent]
    assert listed(AWAITING_SUBTASKS) == []
    workplace.client.resume(parent)
    gate.reached()
    assert listed("awaiting_approval") == [asking]
    assert listed(AWAITING_SUBTASKS) == [parent]
    assert workplace.client.get(parent).suspend_reason == AWAITING_SUBTASKS
    gate.open()
    assert workplace.ended(parent).suspend_reason is None
    assert listed(AWAITING_SUBTASKS) == []


def test_cancelling_a_suspended_task_ends_it(workplace):
    workplace.start(serving(ask=ask))
    task_id = workplace.client.enqueue("ask")
    workplace.becomes(task_id, Status.SUSPENDED)
    workplace.client.cancel(task_id, "no longer wanted")
    done = workplace.client.get(task_id)
    assert (done.status, done.error, done.result, done.attempt) == (Status.CANCELLED, "no longer wanted", None, 1)
    assert done.finished_at is not None
    (event,) = workplace.client.events(task_id, types=["task_cancelled"]).items
    assert (event.from_status, event.to_status, event.message) == (Status.SUSPENDED, Status.CANCELLED, "no longer wanted")
    with pytest.raises(IllegalTransition, match="cancelled does not become pending"):
        workplace.client.resume(task_id)


def test_a_parent_waits_for_a_suspended_or_paused_child(workplace):
    gate = Gate()

    async def parent(ctx, payload):
        if ctx.stage == 0:
            return ctx.spawn([child("ask"), child("held")])
        return [part.status for part in ctx.children]

    async def held(ctx, payload):
        await gate.passed()

    workplace.start(serving(parent=parent, ask=ask, held=held))
    parent_id = workplace.client.enqueue("parent")
    gate.reached()
    asking, holding = workplace.children(parent_id)
    workplace.becomes(asking, Status.SUSPENDED)
    workplace.client.pause(holding)
    waiting = workplace.client.get(parent_id)
    assert (waiting.status, waiting.open_children) == (Status.SUSPENDED, 2)
    gate.open()
    workplace.client.resume(asking)
    workplace.ended(asking)
    assert workplace.client.get(parent_id).status is Status.SUSPENDED
    workplace.client.resume(holding)
    assert workplace.ended(parent_id).result == ["completed", "completed"]
