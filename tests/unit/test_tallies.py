"""The tallies of a worker: as many series as there is room for, for the busiest types, and no counter that falls."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from fibflow.metrics import OTHER
from fibflow.model import Outcome
from fibflow_worker.tallies import DURATIONS, Spread, Tallies


def _scrape(tallies):
    """What a scrape reads: the value of each series by its name and labels."""
    registry = CollectorRegistry()
    registry.register(tallies)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


def _claims(tallies):
    found = _scrape(tallies)
    head, tail = 'fibflow_claims_total{type="', '"}'
    return {name[len(head) : -len(tail)]: value for name, value in found.items() if name.startswith(head)}


def _claim(tallies, name, times=1):
    for _ in range(times):
        tallies.claimed([(name, 0.02)])


def test_what_happened_is_told_by_type_and_outcome():
    tallies = Tallies()
    tallies.claimed([("resize", 0.02)])
    tallies.ended("resize", Outcome.FAILED, 0.5, again=True, for_good=False)
    tallies.completed([("resize", 3.0)])
    found = _scrape(tallies)
    assert found['fibflow_attempts_total{outcome="failed",type="resize"}'] == 1
    assert found['fibflow_attempts_total{outcome="completed",type="resize"}'] == 1
    assert found['fibflow_retries_total{type="resize"}'] == 1
    assert found['fibflow_permanent_failures_total{type="resize"}'] == 0
    assert found['fibflow_attempt_duration_seconds_bucket{le="0.25",type="resize"}'] == 0
    assert found['fibflow_attempt_duration_seconds_bucket{le="1.0",type="resize"}'] == 1
    assert found['fibflow_attempt_duration_seconds_count{type="resize"}'] == 2
    assert found['fibflow_attempt_duration_seconds_sum{type="resize"}'] == 3.5
    assert found["fibflow_pickup_seconds_count"] == 1


def test_what_has_not_happened_yet_is_told_so_that_the_first_time_is_seen_as_an_increase():
    found = _scrape(Tallies(["resize"]))
    assert found['fibflow_permanent_failures_total{type="resize"}'] == 0
    ended = [value for name, value in found.items() if name.startswith("fibflow_attempts_total") and 'type="resize"' in name]
    assert ended == [0] * len(Outcome)


def test_a_value_that_is_a_bound_lies_below_it():
    tallies = Tallies()
    tallies.completed([("a", 0.25)])
    assert _scrape(tallies)['fibflow_attempt_duration_seconds_bucket{le="0.25",type="a"}'] == 1


@given(st.lists(st.sampled_from([*DURATIONS, *(bound + 0.001 for bound in DURATIONS), 0.0]), max_size=60))
def test_many_values_at_once_are_the_same_as_each_of_them(values):
    together, apart = Spread(DURATIONS), Spread(DURATIONS)
    together.add_all(list(values))
    for value in values:
        apart.add(value)
    assert together.counts == apart.counts
    assert together.total == pytest.approx(apart.total)


def test_types_for_which_there_is_no_room_are_summed():
    tallies = Tallies(own=2)
    for name in ("a", "b", "c", "d"):
        _claim(tallies, name)
    assert _claims(tallies) == {"a": 1, "b": 1, OTHER: 2}


def test_a_busier_type_takes_the_place_of_an_idle_one_and_no_counter_falls():
    tallies = Tallies(own=2)
    _claim(tallies, "idle", 5)
    _claim(tallies, "busy", 5)
    assert _claims(tallies) == {"idle": 5, "busy": 5, OTHER: 0}
    _claim(tallies, "busy", 5)
    _claim(tallies, "new", 3)
    assert _claims(tallies) == {"busy": 10, "new": 0, OTHER: 3}
    _claim(tallies, "new", 4)
    _claim(tallies, "idle", 1)
    assert _claims(tallies) == {"new": 4, "idle": 0, OTHER: 4}


def test_ten_thousand_types_are_no_more_than_five_thousand_series():
    tallies = Tallies()
    for number in range(10_000):
        tallies.claimed([(f"type-{number}", 0.01)])
        tallies.completed([(f"type-{number}", 0.1)])
        for outcome in set(Outcome) - {Outcome.COMPLETED}:
            tallies.ended(f"type-{number}", outcome, 0.1, again=True, for_good=False)
    found = _scrape(tallies)
    assert len(found) <= 5000
    assert sum(value for name, value in found.items() if name.startswith("fibflow_attempts_total")) == 60_000


def test_scrapes_and_counts_at_once_lose_nothing():
    tallies = Tallies(own=10)
    done = threading.Event()

    def scrape():
        while not done.is_set():
            _scrape(tallies)

    reader = threading.Thread(target=scrape)
    reader.start()
    for number in range(20_000):
        tallies.claimed([(f"type-{number % 10}", 0.01)])
    done.set()
    reader.join()
    assert _claims(tallies) == {f"type-{number}": 2000 for number in range(10)} | {OTHER: 0}
