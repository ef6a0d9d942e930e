"""Scaling: one decision at a time, and whole days of them beside a plain rule of the queue's length."""

import math
import random
from dataclasses import replace

import pytest

from fibflow.scaling import Because, Decision, History, Load, Policy, Rule, Signal, decide, demand
from unit.scaled import by_queue_length, ours, run

RULE = Rule(Policy.BACKLOG, least=0, most=20, slots=4, target_wait=5.0, scale_down_delay=60.0)


NEW = History()


def decided(loads, current=0, rule=RULE, history=NEW, at=100.0, **more):
    return decide(rule, Signal(at, current, loads, **more), history)


@pytest.mark.parametrize("policy", [Policy.FIXED, Policy.EXTERNAL])
def test_what_others_decide_is_obeyed_whatever_the_load(policy):
    decision, _ = decided([Load(waiting=1000)], rule=Rule(policy, replicas=3))
    assert (decision.replicas, str(decision.because)) == (3, str(policy))


@pytest.mark.parametrize(
    ("load", "pods"),
    [
        (Load(), 0),
        (Load(waiting=1), 1),
        (Load(waiting=4, arrival_rate=4 / 60), 1),
        (Load(running=4, arrival_rate=4 / 60), 1),  # no second pod for a fifteenth of a slot
        (Load(arrival_rate=1 / 60), 0),
        (Load(arrival_rate=4 / 60), 1),
        (Load(running=1), 1),
        (Load(waiting=40, service_time=5.0), 10),  # 40 × 5 s in 5 s are 40 slots
        (Load(waiting=40, service_time=1.0), 2),
        (Load(arrival_rate=8.0, service_time=2.0), 4),
        (Load(waiting=10, service_time=600.0), 3),  # no more slots than there are tasks
        (Load(running=9, arrival_rate=1.0, service_time=2.0), 3),
    ],
)
def test_slots_are_wanted_for_what_comes_what_waits_and_what_runs(load, pods):
    assert demand([load], RULE) == pods


def test_the_types_of_a_pool_add_up():
    assert demand([Load(arrival_rate=1.0, service_time=3.0), Load(arrival_rate=1.0, service_time=2.0)], RULE) == 2


@pytest.mark.parametrize(
    ("loads", "pods"),
    [
        ([Load(waiting=1, running=1, service_time=600.0, per_worker=1)], 2),  # one pod would let it wait for ten minutes
        ([Load(waiting=12, service_time=5.0, per_worker=2)], 6),
        ([Load(waiting=12, service_time=5.0, per_worker=40)], 3),
        ([Load(waiting=2, service_time=5.0, per_worker=1), Load(waiting=4, service_time=5.0)], 2),  # side by side in two
        ([Load(waiting=1, per_worker=1)], 1),
    ],
)
def test_where_a_worker_runs_only_some_of_a_type_at_once_it_counts_for_as_many(loads, pods):
    assert demand(loads, RULE) == pods


def test_more_is_wanted_at_once_and_never_above_the_most():
    assert decided([Load(waiting=80, service_time=5.0)])[0] == Decision(20, Because.DEMAND, 20)
    assert decided([Load(waiting=81, service_time=5.0)])[0] == Decision(20, Because.AT_MOST, 20)


def test_less_is_wanted_only_after_the_window_and_never_below_the_least():
    _, history = decided([Load(waiting=20, service_time=4.0)], at=0.0)
    held, history = decided([Load()], current=4, history=history, at=30.0)
    assert held == Decision(4, Because.STABILISING, 0)
    freed, _ = decided([Load()], current=4, history=history, at=61.0)
    assert freed == Decision(0, Because.NO_DEMAND, 0)
    kept, _ = decided([Load()], current=4, rule=Rule(Policy.BACKLOG, least=2, scale_down_delay=0), at=61.0)
    assert kept == Decision(2, Because.AT_LEAST, 2)


def test_who_begins_to_decide_lets_nobody_go_before_the_window_is_over():
    held, history = decided([Load()], current=4, at=100.0)
    assert held == Decision(4, Because.STABILISING, 0)
    held, history = decided([Load()], current=4, history=history, at=159.0)
    assert held == Decision(4, Because.STABILISING, 0)
    assert decided([Load()], current=4, history=history, at=161.0)[0] == Decision(0, Because.NO_DEMAND, 0)


def test_a_most_that_is_lowered_is_in_force_at_once_whatever_was_wanted_before():
    _, history = decided([Load(waiting=80, service_time=5.0)], at=0.0)
    fewer = replace(RULE, most=5)
    loaded, _ = decided([Load(running=80)], current=20, rule=fewer, history=history, at=1.0)
    assert loaded == Decision(5, Because.AT_MOST, 5)
    idle, _ = decided([Load()], current=20, rule=fewer, history=history, at=1.0)
    assert idle == Decision(5, Because.STABILISING, 0)


def test_nothing_goes_while_a_rollout_is_in_progress_and_more_still_comes():
    assert decided([Load()], current=4, rolling=True)[0] == Decision(4, Because.ROLLOUT, 0)
    assert decided([Load(waiting=40, service_time=5.0)], current=4, rolling=True)[0].replicas == 10


def test_a_missing_signal_freezes_all_as_it_is():
    _, history = decided([Load(waiting=40, service_time=5.0)], at=0.0)
    frozen, after = decided(None, current=7, history=history, at=1000.0)
    assert frozen == Decision(7, Because.NO_SIGNAL, 7)
    assert (history.most, after.most) == (10, 7)


def test_after_a_missing_signal_however_long_a_pool_shrinks_no_sooner_than_ever():
    _, history = decided([Load(waiting=20, service_time=5.0)], current=5, at=0.0)
    for at in range(10, 3000, 10):
        _, history = decided(None, current=5, history=history, at=float(at))
    assert decided([Load()], current=5, history=history, at=3000.0)[0] == Decision(5, Because.STABILISING, 0)


def test_a_pool_is_warmed_before_a_tick_and_no_more_than_that():
    assert decided([Load()], due_soon=True)[0] == Decision(1, Because.WARM_UP, 1)
    assert decided([Load(waiting=40, service_time=5.0)], due_soon=True)[0].replicas == 10


# ── whole courses ─────────────────────────────────────────────────────────────────────────────────────────────────


def steady() -> list[int]:
    return [3] * 600


def burst() -> list[int]:
    return [0] * 60 + [200] + [0] * 300


def daily_wave() -> list[int]:
    """Ten minutes for a day; drawn anew each time, from the same seed."""
    chance = random.Random(3)
    return [round(chance.uniform(0.5, 1.5) * max(0.0, 8 * math.sin(math.pi * now / 600))) for now in range(600)]


def nothing() -> list[int]:
    return [0] * 300


def flapping() -> list[int]:
    return ([6] * 20 + [0] * 20) * 15


BOUNDS = {steady: (5, 4), burst: (14, 2), daily_wave: (6, 12), nothing: (0, 0), flapping: (6, 4)}
"""By course: seconds that the worst task waits, pods' start included, and how often the number of pods turns."""


@pytest.mark.parametrize("course", BOUNDS, ids=lambda course: course.__name__)
def test_no_course_makes_tasks_wait_long_kills_work_or_flaps(course):
    worst, turns = BOUNDS[course]
    ran = run(course(), RULE.slots, ours(RULE), idle_first=True)

    assert ran.killed == 0
    assert ran.worst <= worst
    assert ran.turns <= turns
    assert ran.pods[-1] == 0


@pytest.mark.parametrize("course", [daily_wave, flapping], ids=lambda course: course.__name__)
def test_a_plain_rule_of_the_queues_length_does_worse(course):
    plain = run(course(), RULE.slots, by_queue_length(RULE), idle_first=False)
    own = run(course(), RULE.slots, ours(RULE), idle_first=True)

    assert plain.killed > own.killed == 0
    assert plain.quantile(0.99) > own.quantile(0.99)
