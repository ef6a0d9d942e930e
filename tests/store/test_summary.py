"""A workflow's figures, from rows and by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from fibflow.errors import NotFound
from fibflow.model import Attempt, Outcome, Status, TaskId, WorkerId
from fibflow.store.clock import to_datetime
from fibflow.store.summary import Member, critical_path, is_failed, slowest, timed, workflow_summary

START = datetime(2026, 1, 1, tzinfo=UTC)


def _member(task_id, parent_id=None, status=Status.COMPLETED, last_outcome=None):
    parent = None if parent_id is None else TaskId(parent_id)
    return Member(TaskId(task_id), parent, "t", status, 0, last_outcome, None, START)


def _attempt(task_id, number, start, length, stage=0):
    began = START + timedelta(seconds=start)
    end = None if length is None else began + timedelta(seconds=length)
    outcome = None if end is None else Outcome.COMPLETED
    return Attempt(TaskId(task_id), number, stage, WorkerId(1), None, began, end, outcome, None, None)


def _path(members, attempts):
    path = critical_path(members, attempts)
    assert path.duration == sum(step.duration or 0 for step in path.steps)
    return [(step.task.id, step.attempt and step.attempt.attempt, step.duration) for step in path.steps]


def test_the_critical_path_goes_down_the_longest_branch():
    members = [_member(1), _member(2, 1), _member(3, 1), _member(4, 2), _member(5, 2)]
    attempts = [
        _attempt(1, 1, 0, 1), _attempt(1, 2, 5, 3), _attempt(2, 1, 0, 2), _attempt(3, 1, 0, 4),
        _attempt(4, 1, 0, 1), _attempt(5, 1, 0, 3), _attempt(5, 2, 0, 3),
    ]  # fmt: skip
    assert _path(members, attempts) == [(1, 2, 3.0), (2, 1, 2.0), (5, 1, 3.0)]


def test_a_tie_goes_to_the_lower_id():
    members = [_member(1), _member(2, 1), _member(3, 1)]
    assert _path(members, [_attempt(2, 1, 0, 2), _attempt(3, 1, 0, 2)]) == [(1, None, None), (2, 1, 2.0)]
    assert _path(members, [_attempt(3, 1, 0, None)]) == [(1, None, None), (2, None, None)]


def test_a_task_whose_only_attempt_is_open_is_on_the_path_with_it():
    members = [_member(1), _member(2, 1)]
    assert _path(members, [_attempt(1, 1, 0, 1), _attempt(2, 1, 2, None)]) == [(1, 1, 1.0), (2, 1, None)]
    assert _path(members, [_attempt(2, 1, 0, 0), _attempt(2, 2, 2, None)])[1] == (2, 1, 0.0), "an ended one counts"


def test_the_five_slowest_and_open_ones_last():
    attempts = [_attempt(n, 1, 10 - n, 1) for n in range(1, 7)] + [_attempt(7, 1, 0, 9), _attempt(8, 1, 0, None)]
    assert [one.attempt.task_id for one in slowest(attempts)] == [7, 6, 5, 4, 3]
    assert [one.attempt.task_id for one in slowest(attempts[5:])] == [7, 6, 8]


def test_no_duration_is_negative():
    assert timed(_attempt(1, 1, 5, -2)).duration == 0.0


@pytest.mark.parametrize(
    ("status", "outcome", "failed"),
    [
        (Status.PERMANENTLY_FAILED, Outcome.FAILED, True),
        (Status.PAUSED, None, True),
        (Status.PENDING, Outcome.TIMEOUT, True),
        (Status.PENDING, Outcome.INTERRUPTED, False),
        (Status.RUNNING, Outcome.FAILED, False),
        (Status.CANCELLED, Outcome.FAILED, False),
    ],
)
def test_failed_is_what_needs_a_look(status, outcome, failed):
    assert is_failed(_member(1, status=status, last_outcome=outcome)) is failed


def test_a_workflow_is_summed_up_from_its_rows(stored):
    root = stored.task("suspended", attempt=1, stage=0, spawned=1, children=2, open_children=1)
    stored.attempt(root, 1, "suspended", started=95, ended=90)
    done = stored.task("completed", parent_id=root, attempt=1, type="u", created=90)
    stored.attempt(done, 1, started=80, ended=60, worker_id=2)
    bad = stored.task("permanently_failed", parent_id=root, attempt=1, failures=1, created=90, error="E")
    stored.attempt(bad, 1, "failed", became="permanently_failed", started=80, ended=70)

    found = stored.call(workflow_summary, root)
    assert (found.root.id, found.tasks, found.attempts, found.workers) == (root, 3, 3, (1, 2))
    assert (found.events, found.checkpoints, found.max_attempt) == (12, 0, 1)
    assert found.by_status == {Status.SUSPENDED: 1, Status.COMPLETED: 1, Status.PERMANENTLY_FAILED: 1}
    assert found.by_outcome == {Outcome.SUSPENDED: 1, Outcome.COMPLETED: 1, Outcome.FAILED: 1}
    assert (found.by_type, found.by_stage) == ({"t": 2, "u": 1}, {0: 3})
    assert found.timing.first_started_at == to_datetime(stored.ago(95))
    assert found.timing.last_event_time == found.timing.last_ended_at == to_datetime(stored.ago(60))
    assert found.timing.duration == 40.0
    assert [(one.id, one.error) for one in found.failed] == [(bad, "E")]
    assert [step.task.id for step in found.critical_path.steps] == [root, done]
    assert [(one.attempt.stage, one.duration) for one in found.stages] == [(0, 5.0)]
    assert [one.attempt.task_id for one in found.slowest] == [done, bad, root]


def test_a_workflow_that_never_ran_has_no_timing(stored):
    root = stored.task("ready")
    found = stored.call(workflow_summary, root)

    assert (found.stages, found.slowest, found.timing.duration) == ((), (), None)
    assert found.timing.last_event_time == to_datetime(stored.ago(100))
    with pytest.raises(NotFound):
        stored.call(workflow_summary, 99)
