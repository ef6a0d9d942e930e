"""Arithmetic on measurements: pure, and small enough to be checked by hand."""

from bisect import bisect_right
from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]


def middle(values: Sequence[float]) -> float | None:
    """The median, or None if nothing was measured."""
    return median(values) if values else None


def first_and_last_tenth(instants: Sequence[int]) -> tuple[float, float]:
    """Settled tasks a second in the first and in the last tenth of a run, from ascending microseconds.

    Tasks are settled in batches that share an instant. A rate is therefore taken between two instants, and counts what
    was settled after the first of them up to the second.
    """
    tenth = len(instants) // 10
    if not tenth:
        raise ValueError(f"{len(instants)} tasks are too few to speak of a tenth of them")
    return _rate(instants, instants[0], instants[tenth]), _rate(instants, instants[-1 - tenth], instants[-1])


def _rate(instants: Sequence[int], begin: int, end: int) -> float:
    if begin == end:
        raise ValueError("a tenth of the tasks was settled in one instant: too few tasks, or too large batches, to see a rate")
    return (bisect_right(instants, end) - bisect_right(instants, begin)) / (end - begin) * 1e6
