"""Attempts: the ended ones and the open one are one list."""

import pytest

from fibflow.errors import InvalidInput, NotFound
from fibflow.model import Outcome
from fibflow.store.attempts import attempts, workflow_attempts
from fibflow.store.clock import to_datetime


def _numbers(found):
    return [(one.task_id, one.attempt) for one in found.items]


@pytest.fixture
def workflow(stored):
    """A root that runs its third attempt, and a child that completed in one."""
    stored.worker(1)
    root = stored.task("running", attempt=3, failures=1, stage=1)
    stored.attempt(root, 1, "failed", became="pending", started=90, ended=80, error="boom", worker_id=9)
    stored.attempt(root, 2, "suspended", started=70, ended=60, failures=1)
    child = stored.task("completed", parent_id=root, attempt=1)
    stored.attempt(child, 1, started=40, ended=30)
    return root, child


def test_the_open_attempt_is_the_last(stored, workflow):
    root, _ = workflow
    first, second, third = stored.call(attempts, root).items

    assert (first.outcome, first.error, first.pod_id) == (Outcome.FAILED, "boom", None)
    assert second.outcome is Outcome.SUSPENDED
    assert (third.attempt, third.stage, third.ended_at, third.outcome) == (3, 1, None, None)
    assert (third.started_at, third.worker_id, third.pod_id) == (to_datetime(stored.ago(5)), 1, "pod-1")


def test_a_workflow_has_the_attempts_of_all_its_tasks(stored, workflow):
    root, child = workflow
    everything = [(root, 1), (root, 2), (child, 1), (root, 3)]

    assert _numbers(stored.call(workflow_attempts, root)) == everything
    assert _numbers(stored.call(workflow_attempts, root, order="desc", limit=2)) == everything[:1:-1]
    assert stored.call(workflow_attempts, root, limit=1, offset=1).total == 4
    assert _numbers(stored.call(workflow_attempts, root, open_only=True)) == [(root, 3)]
    assert _numbers(stored.call(workflow_attempts, root, worker_id=9)) == [(root, 1)]
    assert _numbers(stored.call(workflow_attempts, root, outcome="completed")) == [(child, 1)]
    middle = to_datetime(stored.ago(65))
    assert _numbers(stored.call(workflow_attempts, root, ended_after=middle)) == [(root, 2), (child, 1)]
    assert _numbers(stored.call(workflow_attempts, root, ended_before=middle)) == [(root, 1)]
    assert _numbers(stored.call(workflow_attempts, root, started_after=middle)) == [(child, 1), (root, 3)]
    assert _numbers(stored.call(workflow_attempts, root, started_before=middle)) == [(root, 1), (root, 2)]


def test_what_is_not_there_is_not_found(stored, workflow):
    root, child = workflow
    with pytest.raises(InvalidInput, match=f"the root of its workflow is {root}"):
        stored.call(workflow_attempts, child)
    with pytest.raises(NotFound):
        stored.call(attempts, 99)
    with pytest.raises(InvalidInput, match="outcome"):
        stored.call(attempts, child, outcome="lost")
