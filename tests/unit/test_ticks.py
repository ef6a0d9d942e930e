"""The decision of due ticks: every instant once, whatever the clock, the gap and the policies do."""

import time
from unittest.mock import Mock

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from fibflow.model import ConcurrencyPolicy, MissedRunPolicy
from fibflow.schedule import SECOND, Schedule
from fibflow.ticks import Decision, SkippedRange, SkipReason, Tick, decide

SKIP, RUN_LATEST = MissedRunPolicy.SKIP, MissedRunPolicy.RUN_LATEST
ALLOW, FORBID = ConcurrencyPolicy.ALLOW, ConcurrencyPolicy.FORBID
MINUTE = 60 * SECOND
YEAR = 365 * 86_400 * SECOND
NOON = 1_704_110_400 * SECOND  # 2024-01-01 12:00:00
EVERY_MINUTE = Schedule.parse("* * * * *")
EVERY_SECOND = Schedule.parse("* * * * * *")
OVERLAP = SkipReason.OVERLAP


def test_nothing_due_moves_on_to_now():
    assert decide(NOON, NOON + 30 * SECOND, EVERY_MINUTE) == Decision((), NOON + 30 * SECOND)


def test_an_instant_on_time_runs():
    assert decide(NOON, NOON + MINUTE + 1, EVERY_MINUTE) == Decision((Tick(NOON + MINUTE),), NOON + MINUTE + 1)


def test_now_itself_is_due_and_decided_through_itself_is_not():
    assert decide(NOON, NOON + MINUTE, EVERY_MINUTE).ticks == (Tick(NOON + MINUTE),)
    assert decide(NOON + MINUTE, NOON + MINUTE + 1, EVERY_MINUTE).ticks == ()


@pytest.mark.parametrize(("late", "on_time"), [(0, True), (10 * SECOND, True), (10 * SECOND + 1, False)])
def test_ten_seconds_late_is_on_time_and_more_is_missed(late, on_time):
    ticks = decide(NOON, NOON + MINUTE + late, EVERY_MINUTE, SKIP).ticks
    assert ticks == ((Tick(NOON + MINUTE),) if on_time else (SkippedRange(NOON + MINUTE, NOON + MINUTE, 1),))


def test_skip_skips_every_missed_instant():
    decision = decide(NOON, NOON + 5 * MINUTE + 11 * SECOND, EVERY_MINUTE, SKIP)
    assert decision.ticks == (SkippedRange(NOON + MINUTE, NOON + 5 * MINUTE, 5),)


def test_run_latest_runs_the_latest_missed_instant():
    decision = decide(NOON, NOON + 5 * MINUTE + 11 * SECOND, EVERY_MINUTE, RUN_LATEST)
    assert decision.ticks == (SkippedRange(NOON + MINUTE, NOON + 4 * MINUTE, 4), Tick(NOON + 5 * MINUTE))


def test_run_latest_with_one_missed_instant_skips_none():
    assert decide(NOON, NOON + MINUTE + 11 * SECOND, EVERY_MINUTE, RUN_LATEST).ticks == (Tick(NOON + MINUTE),)


@pytest.mark.parametrize("policy", [SKIP, RUN_LATEST])
def test_an_instant_on_time_leaves_no_missed_one_to_run(policy):
    decision = decide(NOON, NOON + 3 * MINUTE, EVERY_MINUTE, policy)
    assert decision.ticks == (SkippedRange(NOON + MINUTE, NOON + 2 * MINUTE, 2), Tick(NOON + 3 * MINUTE))


def test_forbid_skips_while_a_tick_is_active():
    assert decide(NOON, NOON + MINUTE, EVERY_MINUTE, active=1).ticks == (Tick(NOON + MINUTE, OVERLAP),)


def test_forbid_skips_the_latest_missed_instant_while_a_tick_is_active():
    ticks = decide(NOON, NOON + 2 * MINUTE + 30 * SECOND, EVERY_MINUTE, active=2).ticks
    assert ticks == (SkippedRange(NOON + MINUTE, NOON + MINUTE, 1), Tick(NOON + 2 * MINUTE, OVERLAP))


def test_forbid_skips_behind_a_tick_of_the_same_decision():
    ticks = decide(NOON, NOON + 3 * SECOND, EVERY_SECOND).ticks
    assert ticks == (Tick(NOON + SECOND), Tick(NOON + 2 * SECOND, OVERLAP), Tick(NOON + 3 * SECOND, OVERLAP))


def test_allow_runs_all_that_are_on_time():
    missed, *on_time = decide(NOON, NOON + YEAR, EVERY_SECOND, overlap=ALLOW, active=3).ticks
    assert on_time == [Tick(NOON + YEAR - late * SECOND) for late in range(10, -1, -1)]
    assert missed == SkippedRange(NOON + SECOND, NOON + YEAR - 11 * SECOND, None)


@pytest.mark.parametrize("back", [0, 1, 3 * MINUTE, YEAR])
def test_a_clock_stepped_back_decides_nothing(back):
    assert decide(NOON, NOON - back, EVERY_SECOND) == Decision((), NOON)


def test_a_thousand_missed_instants_are_counted_and_more_are_not():
    exactly = decide(NOON, NOON + 1000 * MINUTE + 30 * SECOND, EVERY_MINUTE, SKIP).ticks
    beyond = decide(NOON, NOON + 1001 * MINUTE + 30 * SECOND, EVERY_MINUTE, SKIP).ticks
    assert exactly == (SkippedRange(NOON + MINUTE, NOON + 1000 * MINUTE, 1000),)
    assert beyond == (SkippedRange(NOON + MINUTE, NOON + 1001 * MINUTE, None),)


@pytest.mark.parametrize("policy", [SKIP, RUN_LATEST])
@pytest.mark.parametrize("text", ["* * * * * *", "*/2 * 1-31 * 1,5L", "0 0 29 2 *"])
def test_a_long_gap_costs_no_more_than_counting_to_a_thousand(text, policy, monkeypatch):
    search = Mock(side_effect=getattr(croniter, "_calc"))  # noqa: B009 - private: what next, previous and all share
    monkeypatch.setattr(croniter, "_calc", lambda *where: search(*where))
    schedule = Schedule.parse(text)
    decide(0, NOON, schedule, policy)
    assert 0 < search.call_count <= 1020 * len(schedule.rules)


def test_a_year_of_seconds_is_decided_in_a_moment():
    decide(NOON, NOON + YEAR, EVERY_SECOND)
    began = time.perf_counter()
    decide(NOON, NOON + YEAR, EVERY_SECOND)
    assert time.perf_counter() - began < 0.5


steps = st.integers(-3 * MINUTE, 90 * MINUTE) | st.sampled_from([0, 1, SECOND, 10 * SECOND, 10 * SECOND + 1, MINUTE])
overlaps = st.sampled_from(ConcurrencyPolicy)
texts = st.sampled_from(["* * * * *", "*/7 * * * * *", "5-50/15 12-13 * * *", "0 */2 1 * 1", "59 59 23 L * *"])


@settings(deadline=None, max_examples=150)
@given(
    texts, st.lists(steps, min_size=1, max_size=8), st.sampled_from(MissedRunPolicy), st.sampled_from(ConcurrencyPolicy)
)
def test_every_instant_is_decided_exactly_once(text, advances, policy, overlap):
    schedule = Schedule.parse(text)
    decided_through, now = NOON - 1, NOON
    decided: list[int] = []
    for advance in advances:
        now += advance
        decision = decide(decided_through, now, schedule, policy, overlap, active=advance % 2)
        assert decision.decided_through == max(decided_through, now)
        for tick in decision.ticks:
            if isinstance(tick, Tick):
                decided.append(tick.instant)
            else:
                inside = schedule.between(tick.first - 1, tick.last, 5000)
                assert (inside[0], inside[-1]) == (tick.first, tick.last)
                assert tick.count == (len(inside) if len(inside) <= 1000 else None)
                decided += inside
        decided_through = decision.decided_through
    assert decided == schedule.between(NOON - 1, decided_through, 50_000)


@settings(deadline=None, max_examples=150)
@given(texts, steps, st.sampled_from(MissedRunPolicy), st.integers(0, 2))
def test_forbid_never_has_two_active(text, advance, policy, active):
    ticks = decide(NOON, NOON + advance, Schedule.parse(text), policy, FORBID, active).ticks
    assert active + sum(isinstance(tick, Tick) and tick.run for tick in ticks) <= max(1, active)
