"""The life of a task: every verb on every status, pausing, resuming, cancelling, and the rows that cannot be."""

import contextlib
import itertools
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from fibflow import App, Client, NewTask, Outcome, Status
from fibflow.errors import IllegalTransition, NotFound
from fibflow.lifecycle import TARGET, TRANSITIONS, Verb, allowed
from fibflow.store import leases, tables
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


@pytest.mark.parametrize("status", Status)
def test_every_pair_of_statuses_is_allowed_or_refused(hand, status):
    hand.pod_id = "pod-0"
    hand.register()
    for verb in Verb:
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
            assert after.status in targets and allowed(status, after.status), verb
        else:
            assert after == before, f"{verb} changes nothing of it"
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
    sweeps = {Verb.CLAIM: hand.claim, Verb.RECOVER: hand.register, Verb.TIME_OUT: lambda: time_out(hand)}
    ends = {
        Verb.COMPLETE: hand.complete,
        Verb.FAIL: hand.fail,
        Verb.INTERRUPT: hand.release,
        Verb.RELEASE: hand.release,
        Verb.SUSPEND: hand.suspend,
        Verb.SPAWN: lambda attempt: hand.spawn(attempt, NewTask("other")),
    }
    if verb in sweeps:
        sweeps[verb]()
    elif row is not None:
        with contextlib.suppress(*[AssertionError] * stale):
            ends[verb](row)


def time_out(hand):
    hand.move_clock(100)
    hand.database.call(leases.time_out_overdue, hand.worker_id)


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
        for asked, missing in ((client, 999), (elsewhere, task_id)):
            with pytest.raises(NotFound, match=f"there is no task {missing}"):
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


# ── impossible rows ───────────────────────────────────────────────────────────────────────────────────────────────

HOT, FINAL = tables.task, tables.task_final
RUNNING = {"state": "running", "attempt": 1, "started_at": 1, "worker_id": 1, "claimed_at": 1, "deadline_at": 2}
SUSPENDED = {"state": "suspended", "suspend_reason": "approval"}
CHILD = {"parent_id": 1, "root_id": 1, "generation": 1}
CRON = {
    "namespace": "default", "name": "n", "source": "code", "type_id": 1, "schedule": "@daily", "payload": "{}",
    "missed_run_policy": "Skip", "concurrency_policy": "Allow", "pause_on_failure": True, "decided_through": 1, "next_at": 2,
}  # fmt: skip
TICK = {"cron_id": 1, "tick": 5, "through": 5, "decision": "run", "task_id": 1, "decided_at": 5}
ATTEMPT = {
    "task_id": 1, "attempt": 1, "stage": 0, "failures": 0, "worker_id": 1, "started_at": 1, "ended_at": 2,
    "outcome": "completed", "became": None,
}  # fmt: skip
WORKER = {
    "namespace": "default", "pod_id": "pod-0", "host": "h", "pid": 1, "slots": 1, "status": "active", "lease": 1,
    "registered_at": 1, "renewed_at": 1, "expires_at": 2,
}  # fmt: skip

Row = dict[str, Any]
COMMON: list[tuple[str, Row]] = [
    ("priority", {"priority": 21}),
    ("priority", {"priority": -21}),
    ("counts_rise", {"stage": -1}),
    ("failures_are_attempts", {"failures": 1}),
    ("failures_are_attempts", {"interruptions": -1}),
    ("a_child_has_a_generation", {**CHILD, "generation": None}),
    ("a_child_has_a_root", {**CHILD, "root_id": None}),
    ("parents_come_first", {**CHILD, "parent_id": 200}),
    ("parents_come_first", {**CHILD, "root_id": 2}),
    ("a_tick_has_an_instant", {"cron_id": 1}),
    ("percent", {"progress_percent": 101}),
    ("started_by_an_attempt", {"attempt": 1}),
    ("started_by_an_attempt", {"started_at": 1}),
    ("timeout", {"timeout": 0}),
    ("max_attempts", {"max_attempts": 0}),
    ("backoff", {"backoff": -1}),
    ("backoff", {"backoff_factor": 0.5}),
]
IMPOSSIBLE: list[tuple[sa.Table, str | None, Row]] = [
    *((HOT, name, row) for name, row in COMMON),
    *((FINAL, name, row) for name, row in COMMON),
    (HOT, "state", {"state": "failed"}),
    (HOT, "running_has_a_worker", {**RUNNING, "worker_id": None}),
    (HOT, "running_has_a_worker", {"worker_id": 1}),
    (HOT, "running_was_claimed", {**RUNNING, "claimed_at": None}),
    (HOT, "running_has_a_deadline", {**RUNNING, "deadline_at": None}),
    (HOT, "running_is_an_attempt", {**RUNNING, "attempt": 0, "started_at": None}),
    (HOT, "open_children", {**SUSPENDED, "children": 1, "open_children": 2}),
    (HOT, "open_children", {**SUSPENDED, "open_children": -1}),
    (HOT, "waits_for_children", {"children": 1, "open_children": 1}),
    (HOT, "suspend_reason", {"suspend_reason": "approval"}),
    (HOT, "suspended_waits_for_something", {"state": "suspended"}),
    (FINAL, "status", {"status": "failed"}),
    (FINAL, "only_success_has_a_result", {"status": "cancelled", "result": "1"}),
    (FINAL, None, {"finished_at": None}),
    (tables.attempt, "outcome", {"outcome": "paused", "became": "pending"}),
    (tables.attempt, "became_what_the_outcome_left_open", {"outcome": "failed"}),
    (tables.attempt, "became_what_the_outcome_left_open", {"became": "pending"}),
    (tables.task_type, "source", {"source": "guess"}),
    (tables.cron_task, "next_is_undecided", {"next_at": 1}),
    (tables.cron_task, "missed_run_policy", {"missed_run_policy": "Sometimes"}),
    (tables.cron_task, "concurrency_policy", {"concurrency_policy": "Perhaps"}),
    (tables.cron_tick, "decision", {"decision": "perhaps", "task_id": None}),
    (tables.cron_tick, "a_run_has_a_task", {"task_id": None}),
    (tables.cron_tick, "a_skip_has_a_reason", {"reason": "missed"}),
    (tables.cron_tick, "range", {"through": 4}),
    (tables.worker, "status", {"status": "gone", "ended_at": 2}),
    (tables.worker, "active_has_not_ended", {"ended_at": 1}),
]
POSSIBLE: dict[sa.Table, Row] = {
    HOT: {
        "id": 100, "type_id": 1, "state": "ready", "order_key": 1, "priority": 0, "run_at": 1, "created_at": 1, "payload": "{}",
    },
    FINAL: {
        "id": 100, "type_id": 1, "status": "completed", "priority": 0, "run_at": 1, "created_at": 1, "payload": "{}",
        "finished_at": 1,
    },
    tables.attempt: ATTEMPT,
    tables.task_type: {"namespace": "default", "name": "t", "source": "code"},
    tables.cron_task: CRON,
    tables.cron_tick: TICK,
    tables.worker: WORKER,
}  # fmt: skip


def test_constraints_refuse_impossible_rows(database):
    """Each case is a possible row but for what it says, and the constraint that is named is the one that refuses it."""
    refused = []
    for table, row in POSSIBLE.items():
        insert(database, table, row)
    for table, constraint, wrong in IMPOSSIBLE:
        with pytest.raises(IntegrityError) as refusal:
            insert(database, table, {**POSSIBLE[table], **wrong})
        if constraint is not None:
            assert f"{table.name}_{constraint}" in str(refusal.value.orig), (constraint, wrong)
            refused.append(f"{table.name}_{constraint}")
    checks = {str(check.name) for table in tables.metadata.tables.values() for check in table.constraints if is_check(check)}
    assert set(refused) == checks, "every CHECK of the schema has a case here"


def insert(database, table, row):
    """Whether a row may be; it does not stay."""
    with database.engine.connect() as connection:
        connection.execute(sa.insert(table).values(row))
        connection.rollback()


def is_check(constraint):
    return isinstance(constraint, sa.CheckConstraint) and constraint.name is not None
