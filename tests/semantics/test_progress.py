"""What a handler tells while it runs: progress, which the task shows, and checkpoints; both are events."""

from typing import Any

import pytest

from fibflow import Outcome, Status, child
from fibflow.errors import DatabaseUnavailable, InvalidInput
from fibflow.store import record
from fibflow.store.database import write
from fix_semantics import Gate, serving, until


def told(workplace, task_id, type="task_progress"):
    return workplace.client.events(task_id, types=[type]).items


def shown(task):
    return task.current_stage_name, task.progress_text, task.progress_percent


def test_progress_updates_the_snapshot_and_leaves_an_event(workplace):
    gate, seen = Gate(), []

    async def reporting(ctx, payload):
        if ctx.attempt == 1:
            seen.append(await ctx.progress("loading", stage_name="load", percent=10, message=" begun ", metadata={"rows": 7}))
            await ctx.progress(percent=50)
            await ctx.progress(stage_name="transform")
            await ctx.progress(" storing\n", metadata={"progress_text": "mine"})
            raise RuntimeError("broken on purpose")
        await gate.passed()
        await ctx.progress(percent=100)

    worker = workplace.start(serving(reporting=reporting))
    task_id = workplace.client.enqueue("reporting")
    gate.reached()
    again = workplace.client.get(task_id)
    assert (again.attempt, *shown(again)) == (2, "transform", "storing", 50)  # what the first attempt told
    gate.open()
    done = workplace.ended(task_id)
    assert shown(done) == ("transform", "storing", 100)
    assert seen == [None]
    first, second, third, fourth, last = told(workplace, task_id)
    assert [event.message for event in (first, second, third, fourth)] == [
        "begun",
        "task progress updated",
        "transform",
        "storing",
    ]
    assert first.metadata == {"progress_text": "loading", "stage_name": "load", "progress_percent": 10, "rows": 7}
    assert (second.metadata, fourth.metadata) == ({"progress_percent": 50}, {"progress_text": "storing"})
    assert (first.from_status, first.to_status) == (Status.RUNNING, Status.RUNNING)
    assert (first.attempt, last.attempt, first.worker_id, first.stage) == (1, 2, worker.worker_id, 0)


def test_a_part_of_a_hundredth_is_left_out_of_the_percent(workplace):
    async def reporting(ctx, payload):
        for percent in (100 / 3, 99.9):
            await ctx.progress(percent=percent)

    workplace.start(serving(reporting=reporting))
    done = workplace.outcome("reporting")
    assert (done.status, done.progress_percent) == (Status.COMPLETED, 99)
    assert [event.metadata for event in told(workplace, done.id)] == [{"progress_percent": 33}, {"progress_percent": 99}]


def test_progress_moves_no_deadline_and_renews_no_lease(workplace):
    seen = []

    async def reporting(ctx, payload):
        for percent in (1, 2):
            seen.append((workplace.client.get(ctx.id).deadline_at, workplace.client.workers()[0].expires_at))
            await ctx.progress(percent=percent)
            await ctx.checkpoint("told")

    workplace.start(serving(reporting=reporting), heartbeat_interval=1800)
    workplace.outcome("reporting")
    assert seen[0] == seen[1]


@pytest.mark.parametrize("place", ["loop", "thread"])
def test_a_report_waits_for_a_database_that_is_away(workplace, monkeypatch, place):
    away = iter([DatabaseUnavailable("restarts")] * 2)
    monkeypatch.setattr(record, "note_running", failing(record.note_running, away))
    task = reported(workplace, place)
    assert (task.status, task.attempt, task.progress_percent) == (Status.COMPLETED, 1, 50)
    assert [event.metadata for event in told(workplace, task.id)] == [{"progress_percent": 50}]


@pytest.mark.parametrize("place", ["loop", "thread"])
def test_a_report_waits_no_longer_than_its_attempt_runs(workplace, monkeypatch, place):
    away = [DatabaseUnavailable("is gone")]
    monkeypatch.setattr(record, "note_running", failing(record.note_running, away))
    try:
        task = reported(workplace, place, timeout=0.5, max_attempts=1)
        assert (task.status, task.last_outcome) == (Status.PERMANENTLY_FAILED, Outcome.TIMEOUT)
        (worker,) = workplace.running
        until(lambda: not worker._slots.lingering)
    finally:
        away.clear()  # a report that waits for ever would keep its thread, and the tests, from ending


def failing(verb, errors):
    @write
    def failed(session, *args):
        for error in errors:
            raise error
        return verb(session, *args)

    return failed


def reported(workplace, place, **options):
    """What becomes of a task that reports once."""

    async def in_the_loop(ctx, payload):
        await ctx.progress(percent=50)

    def in_a_thread(ctx, payload):
        ctx.progress(percent=50)

    workplace.start(serving(reporting=in_the_loop if place == "loop" else in_a_thread))
    return workplace.outcome("reporting", **options)


def test_a_checkpoint_is_an_event_with_its_code(workplace):
    with_stage = []

    async def reporting(ctx, payload):
        if ctx.stage == 0:
            return ctx.spawn([child("checking")])
        await ctx.checkpoint("rows_loaded", message=" all of them ", metadata={"rows": 7, "code": "mine", "stage": 9})
        await ctx.checkpoint(" rows_stored ")
        for name, value in {"stage": 9, "worker_id": 9, "event_time": 9}.items():
            with pytest.raises(TypeError, match=name):
                await ctx.checkpoint("falsified", **{name: value})
            with_stage.append(name)

    def checking(ctx, payload):
        ctx.checkpoint("checked")

    worker = workplace.start(serving(reporting=reporting, checking=checking))
    done = workplace.outcome("reporting")
    assert done.status is Status.COMPLETED and with_stage == ["stage", "worker_id", "event_time"]
    first, second = told(workplace, done.id, "task_checkpoint")
    assert (first.message, first.metadata) == ("all of them", {"rows": 7, "stage": 9, "code": "rows_loaded"})
    assert (second.message, second.metadata) == ("rows_stored", {"code": "rows_stored"})
    assert (first.worker_id, first.stage, first.attempt) == (worker.worker_id, 1, 2)
    assert (first.from_status, first.to_status) == (Status.RUNNING, Status.RUNNING)
    assert shown(done) == (None, None, None)
    (checked,) = told(workplace, workplace.children(done.id)[0], "task_checkpoint")
    assert checked.metadata == {"code": "checked"}


PROGRESS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((), {}, "says nothing; give a text, a stage_name or a percent"),
    ((), {"message": "only this"}, "says nothing"),
    ((7,), {}, "text: 7 is not text"),
    (("  ",), {}, "text: '  ' is empty"),
    ((), {"stage_name": " "}, "stage_name: ' ' is empty"),
    ((), {"stage_name": "Load It"}, "stage_name: 'Load It' is not lowercase snake_case"),
    ((), {"stage_name": 7}, "stage_name: 7 is not text"),
    ((), {"percent": -1}, "percent: -1 is not between 0 and 100"),
    ((), {"percent": 100.5}, "percent: 100.5 is not between 0 and 100"),
    ((), {"percent": float("nan")}, "percent: nan is not a number"),
    ((), {"percent": "50"}, "percent: '50' is not a number"),
    ((), {"percent": True}, "percent: True is not a number"),
    (("t",), {"message": ""}, "message: '' is empty"),
    (("t",), {"message": 7}, "message: 7 is not text"),
    (("t",), {"metadata": [1]}, "metadata: [1] is not an object"),
    (("t",), {"metadata": {"n": {1}}}, "metadata: {'n': {1}} is not JSON"),
]
CHECKPOINTS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((None,), {}, "code: None is not text"),
    (("",), {}, "code: '' is empty"),
    (("Rows Loaded",), {}, "code: 'Rows Loaded' is not lowercase snake_case"),
    (("c",), {"message": " "}, "message: ' ' is empty"),
    (("c",), {"metadata": "text"}, "metadata: 'text' is not an object"),
]


def test_what_progress_and_checkpoints_cannot_mean_is_refused(workplace):
    async def awaited(ctx, payload):
        for method, cases in ((ctx.progress, PROGRESS), (ctx.checkpoint, CHECKPOINTS)):
            for positional, named, said in cases:
                with pytest.raises(InvalidInput) as refusal:
                    await method(*positional, **named)
                assert said in str(refusal.value)

    def called(ctx, payload):
        for method, cases in ((ctx.progress, PROGRESS), (ctx.checkpoint, CHECKPOINTS)):
            for positional, named, said in cases:
                with pytest.raises(InvalidInput) as refusal:
                    method(*positional, **named)
                assert said in str(refusal.value)

    workplace.start(serving(awaited=awaited, called=called))
    for type in ("awaited", "called"):
        done = workplace.outcome(type, max_attempts=1)
        assert done.error is None
        assert workplace.events(done.id) == ["created", "claimed", "started", "completed"]
