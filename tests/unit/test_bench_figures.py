"""The benchmark's arithmetic: what a percentile, a tenth and a verdict are."""

import pytest

from bench.figures import first_and_last_tenth, middle, percentile
from bench.report import row


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (0.0, 1)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile(range(100, 0, -1), share) == value


def test_nothing_measured_has_no_middle() -> None:
    assert middle([]) is None


def test_tenths_are_rates_between_instants_though_tasks_share_them() -> None:
    quick = [second * 1_000_000 for second in range(10) for _ in range(10)]
    slow = [10_000_000 + second * 2_000_000 for second in range(10) for _ in range(10)]
    first, last = first_and_last_tenth(quick + slow)
    assert (first, last) == (10.0, 5.0)


def test_a_tenth_settled_in_one_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="one instant"):
        first_and_last_tenth([1] * 100)


@pytest.mark.parametrize(("ours", "met"), [(130.0, True), (129.0, False), (None, False)])
def test_a_rate_is_judged_by_its_ratio(ours: float | None, met: bool) -> None:
    assert row("P1", ours, 100.0).json()["met"] is met


@pytest.mark.parametrize(("ours", "met"), [(1.9, True), (2.0, False), (None, False)])
def test_idling_is_judged_by_itself(ours: float | None, met: bool) -> None:
    assert row("P9", ours, 100.0).json()["met"] is met


def test_what_is_asked_only_in_the_end_is_neither_met_nor_missed() -> None:
    shown = row("P1.bare", 60.0, 100.0).json()
    assert (shown["met"], shown["detail"]["final_met"]) == (None, False)
