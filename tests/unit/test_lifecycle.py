"""The life of a task: the one table, and what follows from an outcome."""

import itertools

import pytest

from fibflow.errors import IllegalTransition
from fibflow.lifecycle import (
    TARGET,
    TRANSITIONS,
    Facts,
    Transition,
    after_failure,
    after_interruption,
    after_release,
    allowed,
    backoff_delay,
    check,
)
from fibflow.model import INTERRUPTION_BUDGET, Status

LEGAL = {
    "pending": {"running", "paused", "cancelled"},
    "running": {"pending", "completed", "permanently_failed", "suspended", "paused", "cancelled"},
    "suspended": {"pending", "cancelled"},
    "paused": {"pending", "cancelled"},
    "completed": {"pending"},
    "permanently_failed": {"pending"},
    "cancelled": {"pending"},
}


@pytest.mark.parametrize(("status", "target"), list(itertools.product(Status, Status)))
def test_every_pair_of_statuses_is_allowed_or_refused_as_the_contract_says(status, target):
    assert allowed(status, target) is (target in LEGAL[status])


@pytest.mark.parametrize(("verb", "status"), list(itertools.product(TARGET, Status)))
def test_a_refused_verb_names_both_statuses(verb, status):
    if (status, TARGET[verb]) in TRANSITIONS[verb]:
        check(verb, status)
        return
    with pytest.raises(IllegalTransition) as refusal:
        check(verb, status)
    assert status in str(refusal.value) and TARGET[verb] in str(refusal.value)


def test_every_verb_is_in_the_table():
    assert set(TRANSITIONS) == set(Transition)


def test_failures_lead_to_another_attempt_until_they_reach_the_limit():
    assert after_failure(Facts(failures=1)).status is Status.PENDING
    assert after_failure(Facts(failures=2)).status is Status.PERMANENTLY_FAILED
    assert after_failure(Facts(), retryable=False).status is Status.PERMANENTLY_FAILED
    assert after_failure(Facts(), after=7).delay == 7
    assert after_failure(Facts()).restart


def test_an_interruption_counts_no_failure_and_has_a_budget():
    lost = after_interruption(Facts(failures=1, interruptions=INTERRUPTION_BUDGET - 1))
    assert (lost.status, lost.failures, lost.restart) == (Status.PENDING, 1, False)
    assert after_interruption(Facts(interruptions=INTERRUPTION_BUDGET)).status is Status.PERMANENTLY_FAILED


def test_an_interruption_is_made_good_at_once_until_the_third_which_waits_by_chance_and_ever_longer():
    waits = [[after_interruption(Facts(interruptions=before), chance).delay for chance in (0, 0.5, 1)] for before in range(5)]
    assert waits == [[0, 0, 0], [0, 0, 0], [0, 0.5, 1], [0, 1, 2], [0, 2, 4]]


def test_a_release_counts_nothing():
    released = after_release(Facts(failures=1, interruptions=2))
    assert (released.failures, released.interruptions, released.delay) == (1, 2, 0)


def test_the_backoff_grows_by_its_factor_up_to_its_maximum():
    facts = Facts(backoff=2, backoff_factor=3, max_backoff=20)
    assert [backoff_delay(facts, failures) for failures in (1, 2, 3, 4)] == [2, 6, 18, 20]
    assert backoff_delay(Facts(backoff=1, backoff_factor=1000), 10_000) < float("inf")
