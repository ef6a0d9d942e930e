"""What follows a failure: another attempt, when, from where; and the end, when none is left."""

from datetime import UTC, datetime, timedelta

from fibflow import App, PermanentError, Retry, Status, child
from fibflow.store.cron import CronDeclaration, put_cron
from fix_semantics import serving, until


async def failing(ctx, payload):
    raise RuntimeError("broken on purpose")


async def hanging(ctx, payload):
    await ctx.progress("begun")
    while True:
        await ctx.progress("still there")


async def giving_up(ctx, payload):
    raise PermanentError("no use in trying")


async def echo(ctx, payload):
    return payload


def test_a_failing_task_ends_permanently_failed_after_max_attempts(workplace):
    app = serving(failing=failing, giving_up=giving_up)
    app.add("late", hanging, timeout=0.05)
    workplace.start(app)
    for type, outcome, error in (("failing", "failed", "broken on purpose"), ("late", "timeout", "timed out after 0.05 s")):
        done = workplace.outcome(type, max_attempts=2)
        assert (done.status, done.failures, done.attempt, done.last_outcome) == (Status.PERMANENTLY_FAILED, 2, 2, outcome)
        assert error in done.error
        assert workplace.outcomes(done.id) == [outcome, outcome]
        ended = {"failed": "failed", "timeout": "timed_out"}[outcome]
        told = [event for event in workplace.events(done.id) if event != "progress"]
        first, second = (
            ["claimed", "started", ended, "retry_scheduled"],
            ["claimed", "retry_started", ended, "permanently_failed"],
        )
        assert told == ["created", *first, *second]
        (scheduled,) = workplace.client.events(done.id, types=["task_retry_scheduled"]).items
        assert scheduled.time == workplace.client.attempts(done.id).items[0].ended_at  # one transaction decided both
    assert workplace.outcome("failing").failures == 3  # unless told otherwise
    assert workplace.outcome("giving_up").failures == 1


def test_a_tick_that_fails_for_good_pauses_its_cron_task(workplace):
    workplace.start(serving(failing=failing, echo=echo))
    for type in ("failing", "echo"):
        workplace.database.call(put_cron, CronDeclaration(type, type, "@yearly"))
    workplace.move_clock((datetime(datetime.now(UTC).year + 1, 1, 1, tzinfo=UTC) - datetime.now(UTC)).total_seconds() + 1)
    until(lambda: workplace.client.tasks(cron="failing", status="permanently_failed").total)
    until(lambda: workplace.client.tasks(cron="echo", status="completed").total)
    assert {cron.name: cron.paused for cron in workplace.client.crons()} == {"failing": True, "echo": False}


def test_a_retry_starts_at_stage_zero_with_nothing_kept(workplace):
    seen = []

    async def parent(ctx, payload):
        seen.append((ctx.stage, ctx.context, [part.result for part in ctx.children], ctx.payload))
        if ctx.stage == 0:
            return ctx.spawn([child("echo")], context=b"so far")
        if ctx.attempt == 2:
            raise RuntimeError("broken on purpose")
        return "done"

    workplace.start(serving(parent=parent, echo=echo))
    done = workplace.outcome("parent", {"n": 1})
    assert seen == [(0, None, [], {"n": 1}), (1, b"so far", [{}], {"n": 1})] * 2
    assert done.result == "done"
    workplace.client.redrive(done.id)
    again = workplace.client.get(done.id)
    assert (again.result, again.context, again.error, again.failures) == (None, None, None, 0)


def after(workplace, task_id, failures):
    """The task when it has failed so often, and its last attempt."""
    until(lambda: workplace.client.get(task_id).failures == failures)
    return workplace.client.get(task_id), workplace.client.attempts(task_id).items[-1]


def test_a_retry_waits_its_backoff_once(workplace):
    async def asking(ctx, payload):
        raise Retry("not yet", after=1000)

    app = App()
    app.add("fixed", failing, backoff=100)
    app.add("growing", failing, backoff=100, backoff_factor=10, max_backoff=2000, max_attempts=4)
    app.add("asking", asking, backoff=100)
    workplace.start(app)
    for type, delays in {"fixed": [100, 100], "growing": [100, 1000, 2000], "asking": [1000, 1000]}.items():
        task_id = workplace.client.enqueue(type)
        for failures, delay in enumerate(delays, start=1):
            waiting, last = after(workplace, task_id, failures)
            assert (waiting.status, waiting.attempt) == (Status.PENDING, failures)
            assert waiting.run_at - last.ended_at == timedelta(seconds=delay)
            workplace.move_clock(delay)
        assert workplace.ended(task_id).attempt == len(delays) + 1
