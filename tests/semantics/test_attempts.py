"""Attempts: how they are numbered, what they tell, and how one finds them."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from fibflow import NewTask, Outcome
from fibflow.errors import InvalidInput, LeaseLost, NotFound
from fibflow.store import record
from fibflow.store.record import progress_note
from fibflow.store.tables import attempt as attempt_table
from fix_by_hand import Hand


def numbers(page):
    return [(attempt.task_id, attempt.attempt) for attempt in page.items]


def test_attempts_are_numbered_through_retry_resume_and_recovery(database):
    hand = Hand(database, pod_id="pod-0")
    first = hand.take()
    hand.fail(first)
    task_id = first.id
    hand.again(task_id)  # a retry
    hand.client.pause(task_id)
    hand.client.resume(task_id)
    hand.again(task_id)  # after a pause
    hand.register()
    hand.release(hand.again(task_id))  # recovered from the superseded worker
    hand.complete(hand.again(task_id))  # after a claim that was given back
    hand.client.redrive(task_id)
    last = hand.again(task_id)

    found = hand.client.attempts(task_id).items
    assert [one.attempt for one in found] == [1, 2, 3, 4, 5, 6], "a release takes a number, too"
    assert [one.outcome for one in found] == ["failed", *["interrupted"] * 3, "completed", None]
    assert hand.client.get(task_id).attempt == last.attempt == 6

    note, _ = progress_note("late", None, None, None, None)
    refused = database.call(record.note_running, hand.worker_id, task_id, 5, note, {})
    assert isinstance(refused, LeaseLost) and refused.fence == 5, "the number is the fence"

    hand.execute(sa.delete(attempt_table))
    hand.fail(last)
    assert hand.again(task_id).attempt == 7, "the counter is the task's, not that of the rows"


ERRORS: dict[Outcome | None, str] = {
    Outcome.FAILED: "ValueError: broken",
    Outcome.TIMEOUT: "ValueError: broken",
    Outcome.CANCELLED: "no longer wanted",
}


def test_an_attempt_tells_who_when_and_how(database):
    hand = Hand(database, pod_id="pod-7")
    for outcome in Outcome:
        row = hand.take(max_attempts=1)
        end_as(hand, row, outcome)
        (told,) = hand.client.attempts(row.id).items
        task = hand.client.get(row.id)
        assert (told.task_id, told.attempt, told.stage, told.outcome) == (row.id, 1, 0, outcome)
        assert (told.worker_id, told.pod_id, told.error) == (hand.worker_id, "pod-7", ERRORS.get(outcome))
        assert told.started_at == task.started_at
        assert told.ended_at is not None and told.started_at <= told.ended_at <= task.last_event_time
        assert task.last_outcome is outcome


def end_as(hand, row, outcome):
    """Let an attempt end with an outcome."""
    match outcome:
        case Outcome.COMPLETED:
            hand.complete(row)
        case Outcome.FAILED | Outcome.TIMEOUT:
            hand.fail(row, "ValueError: broken", outcome=outcome)
        case Outcome.SUSPENDED:
            hand.suspend(row)
        case Outcome.INTERRUPTED:
            hand.client.pause(row.id)
        case Outcome.CANCELLED:
            hand.client.cancel(row.id, "no longer wanted")


def test_an_open_attempt_is_listed_as_open(hand):
    row = hand.take()
    (told,) = hand.client.attempts(row.id, open_only=True).items
    assert (told.attempt, told.ended_at, told.outcome, told.error) == (1, None, None, None)
    assert hand.client.workflow_attempts(row.id, open_only=True).items == [told]

    hand.complete(row)
    assert hand.client.attempts(row.id, open_only=True).total == 0
    assert hand.client.attempts(row.id).total == 1


def test_attempts_are_filtered_ordered_and_paged(hand):
    root = hand.take()
    hand.fail(root)
    hand.move_clock(10)
    hand.spawn(hand.again(root.id), NewTask("other"))
    hand.move_clock(10)
    (child,) = hand.claim("other")
    hand.complete(child)
    hand.move_clock(10)
    hand.again(root.id)
    times = {(one.task_id, one.attempt): one for one in hand.client.workflow_attempts(root.id).items}
    everything = [(root.id, 1), (root.id, 2), (child.id, 1), (root.id, 3)]

    assert list(times) == everything, "a workflow's attempts are in the order of time"
    assert numbers(hand.client.attempts(root.id)) == [(root.id, 1), (root.id, 2), (root.id, 3)]
    assert numbers(hand.client.workflow_attempts(root.id, order="desc")) == everything[::-1]
    part = hand.client.workflow_attempts(root.id, limit=2, offset=1)
    assert (numbers(part), part.total, part.has_more) == (everything[1:3], 4, True)
    assert hand.client.attempts(root.id, limit=None).limit is None

    second = times[root.id, 2]
    for filters, expected in [
        ({"worker_id": hand.worker_id}, everything),
        ({"worker_id": hand.worker_id + 1}, []),
        ({"outcome": "failed"}, everything[:1]),
        ({"outcome": Outcome.SUSPENDED}, everything[1:2]),
        ({"started_after": second.started_at}, everything[1:]),
        ({"started_before": second.started_at}, everything[:2]),
        ({"started_before": second.started_at - timedelta(microseconds=1)}, everything[:1]),
        ({"ended_after": second.ended_at}, everything[1:3]),
        ({"ended_before": second.ended_at}, everything[:2]),
        ({"open_only": True}, everything[3:]),
        ({"outcome": "completed", "started_before": second.started_at}, []),
    ]:
        found = hand.client.workflow_attempts(root.id, **filters)
        assert (numbers(found), found.total) == (expected, len(expected)), filters
        own = [key for key in expected if key[0] == root.id]
        assert numbers(hand.client.attempts(root.id, **filters)) == own, filters

    with pytest.raises(InvalidInput, match="outcome"):
        hand.client.attempts(root.id, outcome="lost")
    with pytest.raises(NotFound, match="999"):
        hand.client.attempts(999)
