"""Tallies: what this worker did, by task type, kept as plain numbers and told to Prometheus when it asks.

The busiest types have series of their own, the rest are summed under `_other`, so a scrape stays small however many types
there are. Which are the busiest is looked at with each scrape: a type that had more to do than one with a series takes its
place and is counted anew from then on, and the other one's series ends. What was summed under `_other` stays there, so
no counter ever falls. The types that are known from the start, and every outcome, are told as 0 before anything happens: a
series that begins with its first event shows no increase, and the first failure would go unseen.

The event loop counts, a turn's claims and completions at once, and a scrape reads in another thread, hence the lock.
prometheus_client's own metrics would do the same at several times the cost, for each label of each attempt.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest
from itertools import accumulate, islice
from threading import Lock

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from fibflow.metrics import OTHER, OWN_SERIES, Described, family
from fibflow.model import Outcome

DURATIONS = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0)
PICKUPS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

CLAIMS = family("counter", "fibflow_claims", "Attempts that this worker claimed.", ["type"])
ATTEMPTS = family("counter", "fibflow_attempts", "Attempts that this worker ended, by outcome.", ["type", "outcome"])
RETRIES = family("counter", "fibflow_retries", "Attempts that failed and are followed by another.", ["type"])
FAILURES = family("counter", "fibflow_permanent_failures", "Tasks that failed for good.", ["type"])
DURATION = family("histogram", "fibflow_attempt_duration_seconds", "From the start of an attempt to its end.", ["type"])
PICKUP = family("histogram", "fibflow_pickup_seconds", "From when a task was due to its claim, by the database's clock.")


class Spread:
    """How many values lie below each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all(self, values: list[float]) -> None:
        """The same for each, which are sorted by it: of hundreds it is cheaper to look for the bounds among the values."""
        if len(values) < len(self.bounds):
            for value in values:
                self.add(value)
            return
        values.sort()
        below = 0
        for place, bound in enumerate(self.bounds):
            upto = bisect_right(values, bound, below)
            self.counts[place] += upto - below
            below = upto
        self.counts[-1] += len(values) - below
        self.total += sum(values)

    def told(self) -> tuple[list[tuple[str, float]], float]:
        """Prometheus' buckets, and the sum."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True)), self.total


class Tally:
    """What happened to tasks of one type. `seen`: the claims up to the last scrape."""

    __slots__ = ("claims", "completed", "duration", "failures", "others", "retries", "seen")

    def __init__(self) -> None:
        self.claims = self.completed = self.retries = self.failures = self.seen = 0
        self.others: Counter[str] = Counter({outcome: 0 for outcome in Outcome if outcome is not Outcome.COMPLETED})
        self.duration = Spread(DURATIONS)


class Tallies(Collector):
    """The tallies of one worker, the `own` busiest types apart; `known`: types that it has a handler for."""

    def __init__(self, known: Iterable[str] = (), own: int = OWN_SERIES) -> None:
        self._limit = own
        self._lock = Lock()
        self._own: dict[str, Tally] = {name: Tally() for name in islice(known, own)}
        self._other = Tally()
        self._others: Counter[str] = Counter()
        self._pickup = Spread(PICKUPS)

    def claimed(self, claims: Iterable[tuple[str, float]]) -> None:
        """Tasks were claimed: of each its type, and how many seconds after it was due."""
        with self._lock:
            for name, waits in _by_type(claims).items():
                tally = self._of(name)
                if tally is self._other:
                    self._others[name] += len(waits)
                tally.claims += len(waits)
                self._pickup.add_all([waited if waited > 0.0 else 0.0 for waited in waits])

    def completed(self, ends: Iterable[tuple[str, float]]) -> None:
        """Attempts completed, as most do: of each its type, and how many seconds it took."""
        with self._lock:
            for name, seconds in _by_type(ends).items():
                tally = self._of(name)
                tally.completed += len(seconds)
                tally.duration.add_all(seconds)

    def ended(self, name: str, outcome: Outcome, seconds: float, *, again: bool, for_good: bool) -> None:
        """An attempt ended otherwise; whether it is followed by another, whether its task failed for good."""
        with self._lock:
            tally = self._of(name)
            tally.others[outcome] += 1
            tally.duration.add(seconds)
            tally.retries += again
            tally.failures += for_good

    def _of(self, name: str) -> Tally:
        tally = self._own.get(name)
        if tally is None and len(self._own) < self._limit:
            tally = self._own[name] = Tally()
        return tally or self._other

    def collect(self) -> Iterator[Metric]:
        """The families of a scrape."""
        with self._lock:
            self._exchange()
            return iter(self._families())

    def _exchange(self) -> None:
        """Give series to the types that had more claims since the last scrape than some that have one."""
        recent = {name: tally.claims - tally.seen for name, tally in self._own.items()}
        idlest = sorted(recent, key=lambda name: recent[name])
        busiest = nlargest(self._limit, self._others.items(), key=lambda item: item[1])
        for idle, (busy, claims) in zip(idlest, busiest, strict=False):
            if claims <= recent[idle]:
                break
            del self._own[idle]
            self._own[busy] = Tally()
        self._others.clear()
        for tally in self._own.values():
            tally.seen = tally.claims

    def _families(self) -> list[Metric]:
        pickup = HistogramMetricFamily(PICKUP.name, PICKUP.help)
        pickup.add_metric([], *self._pickup.told())
        duration = HistogramMetricFamily(DURATION.name, DURATION.help, labels=DURATION.labels)
        attempts = CounterMetricFamily(ATTEMPTS.name, ATTEMPTS.help, labels=ATTEMPTS.labels)
        for name, tally in self._all():
            duration.add_metric([name], *tally.duration.told())
            for outcome, count in ((Outcome.COMPLETED, tally.completed), *tally.others.items()):
                attempts.add_metric([name, outcome], count)
        counts = ((CLAIMS, _claims), (RETRIES, _retries), (FAILURES, _failures))
        return [pickup, duration, attempts, *(self._counter(described, of) for described, of in counts)]

    def _counter(self, described: Described, of: Callable[[Tally], int]) -> Metric:
        made = CounterMetricFamily(described.name, described.help, labels=described.labels)
        for name, tally in self._all():
            made.add_metric([name], of(tally))
        return made

    def _all(self) -> Iterator[tuple[str, Tally]]:
        yield from self._own.items()
        yield OTHER, self._other


def _by_type(told: Iterable[tuple[str, float]]) -> defaultdict[str, list[float]]:
    """The values of each type."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for name, value in told:
        found[name].append(value)
    return found


def _claims(tally: Tally) -> int:
    return tally.claims


def _retries(tally: Tally) -> int:
    return tally.retries


def _failures(tally: Tally) -> int:
    return tally.failures
