"""Attempts out of time: who notices, what the handler hears, and what it cannot do about it."""

from fibflow import Outcome, Status
from fix_semantics import Gate, serving, until


async def echo(ctx, payload):
    return payload


def test_check_timeout_raises_once_the_timeout_has_passed(workplace):
    heard = []

    def patient(ctx, earlier):
        ctx.check_timeout()
        ctx.timeout = earlier or ctx.timeout  # a handler may want to stop earlier
        try:
            while True:
                ctx.check_timeout()
        except Exception as error:
            heard.append(str(error))
            raise

    workplace.start(serving(patient=patient))
    for payload, timeout, said in (({"earlier": None}, 0.2, "0.2 s"), ({"earlier": 0.1}, 60, "0.1 s")):
        done = workplace.outcome("patient", payload, timeout=timeout, max_attempts=1)
        assert (done.status, done.last_outcome) == (Status.PERMANENTLY_FAILED, "timeout")
        assert done.error == f"timed out after {said}"
        assert until(lambda: heard).pop() == done.error


def test_a_handler_cannot_give_itself_more_time(workplace):
    left = []

    async def greedy(ctx, payload):
        ctx.timeout = 3600
        try:
            await Gate().passed()
        finally:
            left.append(ctx.id)

    workplace.start(serving(greedy=greedy))
    done = workplace.outcome("greedy", timeout=0.05, max_attempts=1)
    assert (done.last_outcome, done.error) == ("timeout", "timed out after 0.05 s")
    assert until(lambda: left) == [done.id]  # cancelled where it awaited


def test_a_thread_is_asked_and_its_late_return_changes_nothing(workplace):
    gate, left = Gate(), Gate()

    def catching(ctx, payload):
        try:
            while True:
                ctx.check_timeout()
        except Exception:
            gate.wait()
        left.open()
        return "late"

    worker = workplace.start(serving(catching=catching))
    done = workplace.outcome("catching", timeout=0.1, max_attempts=1)
    gate.reached()
    assert (done.status, done.last_outcome) == (Status.PERMANENTLY_FAILED, "timeout")
    gate.open()
    left.wait()
    workplace.stop(worker)
    assert workplace.client.get(done.id) == done


def test_a_thread_that_ignores_its_timeout_keeps_its_slot(workplace):
    gate = Gate()

    def stubborn(ctx, payload):
        gate.wait()

    worker = workplace.start(serving(stubborn=stubborn, work=echo), slots=1)
    workplace.outcome("stubborn", timeout=0.05, max_attempts=1)
    task_id = workplace.client.enqueue("work")
    workplace.beats(worker.worker_id, 3)
    waiting = workplace.client.get(task_id).status
    gate.open()
    workplace.ended(task_id)
    assert waiting is Status.PENDING


def test_an_overdue_attempt_is_settled_by_any_worker(workplace):
    serving(work=echo).sync(workplace.database)
    row = workplace.taken(workplace.registered("pod-1"), "work", timeout=60, max_attempts=2)
    peer = workplace.start(serving(work=echo), pod_id="pod-2")
    workplace.move_clock(61)
    workplace.beats(peer.worker_id)
    assert workplace.client.get(row.id).status is Status.RUNNING  # its own worker has two seconds to settle it
    workplace.move_clock(2)
    done = workplace.ended(row.id)
    assert (done.status, done.failures, done.interruptions) == (Status.COMPLETED, 1, 0)
    assert workplace.outcomes(row.id) == ["timeout", "completed"]
    first = workplace.client.attempts(row.id).items[0]
    assert (first.error, first.ended_by) == ("timed out: its worker did not settle it in time", peer.worker_id)


def test_the_timeout_counts_anew_for_every_attempt(workplace):
    serving(work=echo).sync(workplace.database)
    worker = workplace.registered()
    row = workplace.taken(worker, "work", timeout=60)
    for _ in range(2):
        running, (attempt,) = workplace.client.get(row.id), workplace.client.attempts(row.id, open_only=True).items
        assert (running.deadline_at - attempt.started_at).total_seconds() == 60
        workplace.settled(worker, row, Outcome.SUSPENDED, suspend_reason="awaiting_approval")
        workplace.move_clock(3600)
        workplace.client.resume(row.id)
        (row,) = workplace.claimed(worker, "work")
    assert (row.stage, row.attempt) == (2, 3)
