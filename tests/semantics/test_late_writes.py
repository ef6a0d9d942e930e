"""Writes of attempts that their worker no longer owns: refused, recorded, counted, and nothing of them stays."""

import pytest

from fibflow import NewTask, Outcome
from fibflow.errors import LeaseLost
from fibflow.lifecycle import Facts, after_failure, ended
from fibflow.metrics import STALE_WRITES
from fibflow.store import record
from fibflow.store.ending import Ending
from fix_semantics import Gate, serving, until


async def echo(ctx, payload):
    return payload


def work():
    return serving(work=echo)


def writes(workplace, worker, row):
    """Every write that an attempt can make, by its verb."""
    suspended = ended(Facts(), Outcome.SUSPENDED)
    ending = Ending(row.id, row.attempt, worker, Outcome.SUSPENDED, suspended, children=1)
    call, key = workplace.database.call, (worker, row.id, row.attempt)
    note, snapshot = record.progress_note("late", None, 10, None, None)
    return {
        "complete": lambda: workplace.settled(worker, row, result="1"),
        "fail": lambda: workplace.settled(worker, row, Outcome.FAILED, after_failure(Facts()), error="late"),
        "time_out": lambda: workplace.settled(worker, row, Outcome.TIMEOUT, after_failure(Facts()), error="late"),
        "suspend": lambda: workplace.settled(worker, row, Outcome.SUSPENDED, suspend_reason="late"),
        "spawn": lambda: call(record.spawn, worker, ending, [NewTask("work")]),
        "progress": lambda: [call(record.note_running, *key, note, snapshot)],
        "checkpoint": lambda: [call(record.note_running, *key, record.checkpoint_note("late", None, None), {})],
    }


def counted():
    return sum(s.value for metric in STALE_WRITES.collect() for s in metric.samples if s.name.endswith("_total"))


@pytest.mark.parametrize("again", [False, True])
def test_a_superseded_worker_writes_nothing(workplace, again):
    """Whether the task waits to be claimed, or its successor has claimed it."""
    work().sync(workplace.database)
    old = workplace.registered("pod-1")
    row = workplace.taken(old, "work")
    new = workplace.registered("pod-1")
    if again:
        workplace.claimed(new, "work")
    before, told = workplace.client.get(row.id), workplace.events(row.id)
    metric = counted()
    late = writes(workplace, old, row)
    for write in late.values():
        (refusal,) = write()
        assert isinstance(refusal, LeaseLost)
    assert workplace.client.get(row.id) == before
    assert workplace.client.tasks().total == 1
    assert [event for event in workplace.events(row.id) if event != "stale_write_rejected"] == told
    refused = workplace.client.events(row.id, types=["task_stale_write_rejected"]).items
    assert {(event.attempt, event.worker_id) for event in refused} == {(1, old)}
    assert counted() - metric == sum(event.metadata["count"] for event in refused) == len(late)


def test_only_a_running_attempt_reports(workplace):
    work().sync(workplace.database)
    worker = workplace.registered("pod-1")
    task_id = workplace.client.enqueue("work")
    note, snapshot = record.progress_note("never begun", None, None, None, None)
    for missing in (task_id, task_id + 1):
        refusal = workplace.database.call(record.note_running, worker, missing, 0, note, snapshot)
        assert isinstance(refusal, LeaseLost)
    assert workplace.client.get(task_id).progress_text is None


def test_a_handler_hears_that_its_lease_is_lost(workplace):
    gate, heard = Gate(), []

    def stubborn(ctx, payload):
        gate.wait()
        heard.append(until(lambda: ctx.cancelled))
        for report in (lambda: ctx.progress("late"), lambda: ctx.checkpoint("late")):
            with pytest.raises(LeaseLost):
                report()
            heard.append("refused")

    workplace.start(serving(stubborn=stubborn), pod_id="pod-1")
    task_id = workplace.client.enqueue("stubborn")
    gate.reached()
    workplace.registered("pod-1")
    before = workplace.client.get(task_id)
    gate.open()
    until(lambda: len(heard) == 3)
    assert heard == ["lease_lost", "refused", "refused"]
    assert workplace.client.get(task_id) == before
