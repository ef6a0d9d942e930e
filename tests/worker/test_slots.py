"""Slots: none is lost, whatever becomes of a handler, and a limited type keeps its own busy."""

import asyncio
import threading
import time
from types import SimpleNamespace as Scripted
from typing import Any

from fibflow import App, Status
from fibflow.metrics import LINGERING
from fibflow_worker.slots import Slots
from fix_semantics import Gate, serving, until

SELDOM = {"poll_interval": 600, "heartbeat_interval": 100}


async def echo(ctx, payload):
    return payload


def test_a_limited_type_goes_on_without_waiting_for_a_poll(workplace):
    app = App()
    app.add("single", echo, max_concurrent_tasks=1)
    app.add("other", echo)
    app.sync(workplace.database)
    ids = [workplace.client.enqueue("single") for _ in range(8)] + [workplace.client.enqueue("other")]
    workplace.start(app, slots=10, **SELDOM)
    assert {workplace.ended(task_id).status for task_id in ids} == {Status.COMPLETED}


def test_a_result_that_is_blocked_keeps_its_slot_busy_until_it_is_settled():
    slots: Any = Slots(3)
    attempt = Scripted(key=(1, 1), type_id=7)
    slots.reserve(1, {7: 1})
    assert (slots.busy, slots.free) == (0, 2), "what is reserved may stay empty"
    slots.give_back(1, {7: 1})
    slots.fill(attempt)
    slots.end(attempt, Scripted(attempt=attempt, blocked=False))
    (result,) = slots.take_ended(10)
    result.blocked = True
    slots.put_back([result])
    assert (slots.busy, slots.free, slots.of_type(7)) == (1, 2, 1)
    slots.settled(slots.take_blocked())
    assert (slots.busy, slots.free, slots.of_type(7)) == (0, 3, 0)


def test_attempts_that_are_lost_before_their_first_step_leave_their_slots(workplace):
    gate = Gate()

    async def gated(ctx, payload):
        await gate.passed()

    worker = workplace.start(serving(gated=gated), slots=2)
    task_id = workplace.client.enqueue("gated")
    gate.reached()
    (attempt,) = worker._slots.running.values()

    async def start_and_lose():
        again = attempt.claimed._replace(attempt=attempt.claimed.attempt + 1)
        worker._attempts.start(again)
        worker._attempts.stop((task_id, again.attempt), "lease_lost")
        return len(worker._slots.lingering)

    assert workplace.within(start_and_lose()) == 1
    until(lambda: not worker._slots.lingering)
    gate.open()
    assert workplace.ended(task_id).status is Status.COMPLETED


def test_a_thread_that_outlives_its_attempt_is_counted_and_its_drain_does_not_wait_for_nothing(workplace):
    gate, before = Gate(), LINGERING._value.get()
    app = App()
    app.add("deaf", lambda ctx, payload: gate.wait(), timeout=0.2, max_attempts=1)
    worker = workplace.start(app, drain=600)
    task_id = workplace.client.enqueue("deaf")
    gate.reached()
    workplace.tell(worker.stop)  # before the timeout: the drain waits for it, and for no more
    assert workplace.ended(task_id).last_outcome == "timeout"
    workplace.running[worker].result(15)
    assert LINGERING._value.get() == before + 1
    gate.open()


def test_handlers_hear_that_the_lease_could_not_be_renewed_and_that_it_was(workplace):
    heard, again, over = threading.Event(), threading.Event(), threading.Event()

    async def listening(ctx, payload):
        while ctx.cancelled is None:
            await asyncio.sleep(0.005)
        reason = ctx.cancelled
        heard.set()
        while ctx.cancelled is not None:
            await asyncio.sleep(0.005)
        again.set()
        await asyncio.to_thread(over.wait, 15)
        return reason

    worker = workplace.start(serving(listening=listening), heartbeat_interval=100)
    task_id = workplace.client.enqueue("listening")
    until(lambda: worker._slots.running)
    valid_until, worker._registration.heartbeat.valid_until = worker._registration.heartbeat.valid_until, time.monotonic()
    workplace.tell(worker._registration.watch)
    assert heard.wait(15)
    worker._registration.heartbeat.valid_until = valid_until
    workplace.tell(lambda: worker._registration.beaten(False))
    assert again.wait(15)
    over.set()
    assert workplace.ended(task_id).result == "out_of_touch"
