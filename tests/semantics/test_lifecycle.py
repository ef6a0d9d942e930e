"""The life of a task: every verb on every status, pausing, resuming, cancelling."""

import contextlib
import itertools
import threading

import pytest

from fibflow import App, Client, NewTask, Outcome, Status
from fibflow.errors import IllegalTransition, NotFound
from fibflow.lifecycle import TARGET, TRANSITIONS, Transition, allowed
from fibflow.store import recovery
from fix_semantics import Gate

OPEN = (Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.PAUSED)

# ── every pair ────────────────────────────────────────────────────────────────────────────────────────────────────


def task_that_is(hand, status):
    """A new task of a status, which is reached as tasks reach it; the last attempt's row, if there is one."""
    if status in (Status.PENDING, Status.PAUSED):
        task_id = hand.client.enqueue("work")
        if status is Status.PAUSED:
            hand.client.pause(task_id)
        return task_id, None
    row = hand.take()
    match status:
        case Status.SUSPENDED:
            hand.suspend(row)
        case Status.COMPLETED:
            hand.complete(row)
        case Status.PERMANENTLY_FAILED:
            hand.fail(row, retryable=False)
        case Status.CANCELLED:
            hand.client.cancel(row.id)
    return row.id, row


def test_every_pair_of_statuses_is_allowed_or_refused(hand):
    hand.pod_id = "pod-0"
    hand.register()
    for status, verb in itertools.product(Status, Transition):
        task_id, row = task_that_is(hand, status)
        before = hand.client.get(task_id)
        assert before.status is status
        targets = {target for source, target in TRANSITIONS[verb] if source is status}
        if verb in TARGET:
            by_hand(hand, verb, task_id, status)
        else:
            by_attempt(hand, verb, row, stale=not targets)
        after = hand.client.get(task_id)
        if targets:
            assert after.status in targets and allowed(status, after.status), (status, verb)
        else:
            assert after == before, f"{verb} changes nothing of what is {status}"
        clear(hand)


def by_hand(hand, verb, task_id, status):
    """What people do: it is done, or refused with both statuses named."""
    if (status, TARGET[verb]) in TRANSITIONS[verb]:
        getattr(hand.client, verb)(task_id)
        return
    with pytest.raises(IllegalTransition) as refusal:
        getattr(hand.client, verb)(task_id)
    assert status in str(refusal.value) and TARGET[verb] in str(refusal.value)


def by_attempt(hand, verb, row, stale):
    """What workers do. A stale write is refused as LeaseLost, or taken for the repetition of what ended the attempt."""
    sweeps = {Transition.CLAIM: hand.claim, Transition.RECOVER: hand.register, Transition.TIME_OUT: lambda: time_out(hand)}
    ends = {
        Transition.COMPLETE: hand.complete,
        Transition.FAIL: hand.fail,
        Transition.INTERRUPT: hand.release,
        Transition.RELEASE: hand.release,
        Transition.SUSPEND: hand.suspend,
        Transition.SPAWN: lambda attempt: hand.spawn(attempt, NewTask("other")),
    }
    if verb in sweeps:
        sweeps[verb]()
    elif row is not None:
        with contextlib.suppress(*[AssertionError] * stale):
            ends[verb](row)


def time_out(hand):
    hand.move_clock(100)
    hand.database.call(recovery.time_out_overdue, hand.worker_id)


def clear(hand):
    """End what is open, parents first, so that the next claim finds what it looks for."""
    for status in reversed(OPEN):
        for task in hand.client.tasks(status=status).items:
            hand.client.cancel(task.id)


def test_a_task_begins_as_pending_and_has_no_other_status_than_these(hand):
    row = hand.take()
    hand.fail(row)
    assert [task.id for task in hand.client.tasks(last_outcome="failed").items] == [row.id]
    assert hand.client.get(hand.client.enqueue("work")).status is Status.PENDING
    with pytest.raises(TypeError, match="status"):
        hand.client.enqueue("work", status="completed")
    assert not {"failed", "timeout"} & set(Status)


def test_an_unknown_task_is_told_by_every_verb(hand):
    client = hand.client
    elsewhere = Client(hand.database.url, namespace="elsewhere")
    task_id, _ = task_that_is(hand, Status.COMPLETED)
    verbs = ("get", "pause", "resume", "cancel", "redrive", "events", "attempts", "audit", "children")
    workflow = ("workflow_events", "workflow_attempts", "workflow_audit", "workflow_summary")
    for verb in (*verbs, *workflow):
        for asked, missing, namespace in ((client, 999, "default"), (elsewhere, task_id, "elsewhere")):
            with pytest.raises(NotFound, match=f"there is no task {missing} in namespace '{namespace}'; see `fibflow list`"):
                getattr(asked, verb)(missing)
    elsewhere.close()
    assert client.get(task_id).status is Status.COMPLETED


# ── pause, resume, cancel ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_pending_task_can_be_paused_and_resumed(database_url, hand):
    with Client(database_url) as elsewhere:  # any program controls, no worker need run
        task_id = elsewhere.enqueue("work")
        elsewhere.pause(task_id)
        assert hand.claim() == []
        elsewhere.resume(task_id)
    hand.fail(hand.again(task_id))
    hand.client.pause(task_id)
    assert hand.claim() == [], "a task that waits for its retry is pending"
    hand.client.resume(task_id)
    hand.complete(hand.again(task_id))

    waiting = hand.client.enqueue("work")
    hand.client.pause_type("work")
    assert hand.claim() == [] and hand.client.get(waiting).status is Status.PENDING
    hand.client.resume_type("work")
    assert hand.again(waiting)


def test_pausing_a_running_task_ends_its_attempt(workplace):
    gate, heard = Gate(), threading.Event()

    def patient(ctx, payload):
        gate.wait()
        while ctx.cancelled is None:
            ctx.check_timeout()
        heard.set()
        return "too late"

    app = App(timeout=10)
    app.add("patient", patient)
    workplace.start(app)
    task_id = workplace.client.enqueue("patient")
    gate.reached()
    workplace.client.pause(task_id)

    task = workplace.client.get(task_id)
    assert (task.status, task.last_outcome, task.failures, task.worker_id) == (Status.PAUSED, "interrupted", 0, None)
    gate.open()
    assert heard.wait(1), "the handler hears of it"
    assert workplace.outcomes(task_id) == ["interrupted"]
    assert workplace.client.get(task_id).status is Status.PAUSED
    assert workplace.client.get(task_id).result is None, "what it returns is refused"


def test_a_handler_may_pause_its_own_task(workplace):
    app = App()
    app.add("shy", lambda ctx, payload: "again" if ctx.attempt > 1 else workplace.client.pause(ctx.id))
    workplace.start(app)
    task_id = workplace.client.enqueue("shy")
    workplace.becomes(task_id, Status.PAUSED)
    workplace.client.resume(task_id)
    assert workplace.ended(task_id).result == "again"
    assert workplace.outcomes(task_id) == ["interrupted", "completed"]


def test_resuming_a_paused_task_starts_it_afresh(hand):
    row = hand.take(max_attempts=5)
    hand.fail(row)
    row = hand.again(row.id)
    hand.suspend(row, context=b"half way")
    hand.client.resume(row.id)
    row = hand.again(row.id)
    assert (row.stage, row.context, row.failures) == (1, b"half way", 1)
    hand.client.pause(row.id)
    hand.client.resume(row.id)

    task = hand.client.get(row.id)
    assert (task.status, task.stage, task.failures, task.interruptions) == (Status.PENDING, 0, 0, 0)
    assert (task.context, task.result) == (None, None)
    assert hand.again(row.id).attempt == 4, "it is due at once"


def test_a_resumed_task_shows_its_last_error_until_it_completes_and_a_redriven_one_none(hand):
    resumed = hand.take(max_attempts=5)
    hand.fail(resumed, "no disk")
    hand.client.pause(resumed.id)
    hand.client.resume(resumed.id)
    assert hand.client.get(resumed.id).error == "no disk"
    hand.complete(hand.again(resumed.id))
    assert hand.client.get(resumed.id).error is None

    redriven = hand.take(max_attempts=1)
    hand.fail(redriven, "no disk")
    assert hand.client.get(redriven.id).error == "no disk"
    hand.client.redrive(redriven.id)
    assert hand.client.get(redriven.id).error is None


def test_a_task_that_is_resumed_is_due_no_sooner_than_it_was(hand):
    reminder = hand.client.enqueue("work", delay=60)
    due = hand.client.get(reminder).run_at
    hand.client.pause(reminder)
    hand.client.resume(reminder)
    assert hand.client.get(reminder).run_at == due, "a paused reminder does not go out early"
    assert hand.claim() == []
    hand.client.pause(reminder)
    hand.move_clock(120)
    hand.client.resume(reminder)
    assert hand.client.get(reminder).run_at > due
    assert hand.again(reminder)


def test_cancelling_ends_a_task_in_any_open_status(hand):
    reasons = ((None, "Task cancelled"), ("no longer wanted", "no longer wanted"))
    for status, (reason, error) in itertools.product(OPEN, reasons):
        task_id, _ = task_that_is(hand, status)
        hand.client.cancel(task_id, reason=reason)
        task = hand.client.get(task_id)
        assert (task.status, task.error, task.result) == (Status.CANCELLED, error, None)
        assert task.finished_at is not None
        last = hand.client.events(task_id, order="desc", limit=1).items[0]
        assert (last.type, last.from_status, last.to_status) == ("task_cancelled", status, Status.CANCELLED)
        assert last.message == error
        if status is Status.RUNNING:
            assert task.last_outcome is Outcome.CANCELLED
