"""The judge of `make faults` sees what was lost, doubled, or resumed other than once."""

import pytest

from faults.load import Plan
from faults.verdict import verdict


def judged(stored, total):
    return verdict(stored.database, Plan([], 0, total))


@pytest.fixture
def completed(stored):
    """Two tasks that were completed once each."""
    ids = [stored.task("completed", attempt=1) for _ in range(2)]
    for task_id in ids:
        stored.attempt(task_id)
    return ids


def test_tasks_that_were_completed_once_are_in_order(stored, completed):
    verdict = judged(stored, 2)
    assert (verdict.lost, verdict.twice, list(verdict.broken)) == (0, 0, [])


def test_a_task_that_is_missing_or_ended_otherwise_is_lost(stored, completed):
    stored.task("cancelled")
    verdict = judged(stored, 4)
    assert verdict.lost == 2
    assert "2 of 4 tasks are not completed" in verdict.broken[0]


def test_a_task_that_is_not_final_is_told(stored, completed):
    stored.task("ready")
    assert "1 tasks are not final" in judged(stored, 2).broken


def test_a_task_that_two_attempts_completed_was_done_twice(stored, completed):
    stored.attempt(completed[0], 2)
    assert judged(stored, 2).twice == 1


def test_a_completed_task_that_no_attempt_completed_is_told(stored, completed):
    stored.task("completed", attempt=1)
    assert "1 completed tasks have no completed attempt" in judged(stored, 3).broken


@pytest.mark.parametrize("resumes", [0, 2])
def test_a_spawn_that_did_not_resume_its_parent_once_is_told(stored, completed, resumes):
    parent = completed[0]
    stored.attempt(parent, 2, "suspended")
    for _ in range(resumes):
        stored.event(parent, "task_resumed", 2, 6, at=5)
    faults = " ".join(judged(stored, 2).broken)
    assert f"did not resume them once each: [{parent}]" in faults
    assert "the children are not those that were spawned" in faults
