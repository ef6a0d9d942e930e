"""What a worker does by itself for its own good: its deadline, its history, what the database refuses, who hurries it."""

import asyncio
import threading

from fibflow import Outcome, Status, encoding
from fibflow_worker.runtime import State
from fix_semantics import Gate, serving, until


async def echo(ctx, payload):
    return payload


def test_a_worker_past_its_own_deadline_writes_and_claims_nothing_until_it_has_renewed(workplace):
    gate = Gate()

    async def gated(ctx, payload):
        await gate.passed()

    worker = workplace.start(serving(gated=gated), heartbeat_interval=100)
    first = workplace.client.enqueue("gated")
    gate.reached()
    heartbeat = worker._registration.heartbeat
    valid_until, heartbeat.valid_until = heartbeat.valid_until, 0
    until(lambda: not worker._turns.under_way)
    second = workplace.client.enqueue("gated")
    gate.open()
    until(lambda: worker._slots.ended)
    for _ in range(3):
        workplace.tell(worker._turns.work_announced)
    assert [workplace.client.get(task_id).status for task_id in (first, second)] == [Status.RUNNING, Status.PENDING]
    heartbeat.valid_until = valid_until
    workplace.tell(worker._turns.knock)
    assert [workplace.ended(task_id).status for task_id in (first, second)] == [Status.COMPLETED] * 2


def test_a_worker_prunes_what_ended_long_ago(workplace):
    workplace.start(serving(work=echo), retention_age=0.001, retention_interval=1)
    done = workplace.outcome("work", {"n": 1})
    until(lambda: workplace.client.tasks(limit=1).total == 0)
    assert done.status is Status.COMPLETED


def test_a_result_that_the_database_refuses_fails_its_attempt_alone(workplace, monkeypatch):
    """What the checks let through by mistake: here, they let everything through."""
    gates = [Gate() for _ in range(5)]

    async def work(ctx, n):
        await gates[n].passed()
        return "\ud800" if n == 2 else f"{n}"

    encode = encoding.encode
    monkeypatch.setattr(encoding, "encode", lambda value, field: value if field == "result" else encode(value, field))
    workplace.start(serving(work=work), slots=len(gates))
    ids = [workplace.client.enqueue("work", {"n": n}) for n in range(len(gates))]
    for gate in gates:
        gate.reached()
    for gate in gates:
        gate.open()
    done = [workplace.ended(task_id) for task_id in ids]
    assert [task.status for task in done] == [Status.COMPLETED] * 2 + [Status.PERMANENTLY_FAILED] + [Status.COMPLETED] * 2
    assert (done[2].attempt, done[2].last_outcome) == (1, Outcome.FAILED)
    assert "cannot be stored" in done[2].error


def test_a_second_stop_does_not_wait_for_what_runs(workplace):
    async def hang(ctx, payload):
        reached.set()
        await asyncio.Event().wait()

    reached = threading.Event()
    worker = workplace.start(serving(hang=hang), drain=600)
    task_id = workplace.client.enqueue("hang")
    assert reached.wait(15)
    workplace.tell(worker.stop)
    until(lambda: worker.state is State.DRAINING)
    assert workplace.client.get(task_id).status is Status.RUNNING
    workplace.stop(worker)
    again = workplace.client.get(task_id)
    assert (again.status, again.last_outcome, again.interruptions) == (Status.PENDING, Outcome.INTERRUPTED, 0)


def test_a_handler_that_outlives_its_timeout_keeps_its_slot(workplace):
    """One in a thread cannot be stopped; its attempt is settled, and nothing else runs in its slot until it returns."""
    gate = Gate()
    app = serving(quick=echo)
    app.add("deaf", lambda ctx, payload: gate.wait(), timeout=0.2, max_attempts=1)
    worker = workplace.start(app, slots=1)
    deaf = workplace.client.enqueue("deaf")
    assert workplace.ended(deaf).last_outcome is Outcome.TIMEOUT
    waiting = workplace.client.enqueue("quick")
    workplace.beats(worker.worker_id)
    assert (workplace.client.get(waiting).status, len(worker._slots.lingering)) == (Status.PENDING, 1)
    gate.open()
    assert workplace.ended(waiting).status is Status.COMPLETED
