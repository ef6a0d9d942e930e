"""When a cron task is due: the instants of a schedule, after and before a given one.

Pure arithmetic in UTC on whole seconds: it reads no clock and decides nothing. What a text means and which texts are
refused is in `cron_text`; which of the instants run is decided in `ticks`. Instants are microseconds since the epoch.

A schedule is a union of rules, so several texts can become one schedule; a time zone would be a field of `Schedule`,
and a hashed value a step of `cron_text` that needs the cron task's name. The search within a rule is croniter's.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from heapq import merge
from itertools import groupby, islice, takewhile

from croniter import croniter  # the search for a rule's next and previous instant

from fibflow.cron_text import InvalidSchedule, rules

__all__ = ["SECOND", "InvalidSchedule", "Schedule"]

SECOND = 1_000_000
_LATEST = int(datetime(9990, 1, 1, tzinfo=UTC).timestamp()) * SECOND  # a search from later may leave the calendar


@dataclass(frozen=True, slots=True)
class Schedule:
    """A declared schedule. Make it with `parse`; equal texts give the same object, cheaply."""

    text: str
    rules: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read a cron text as `cron_text` describes it. Raises `InvalidSchedule`."""
        if not isinstance(text, str):  # a resource file may hold anything
            raise InvalidSchedule(f"a schedule is a text such as '0 3 * * MON', not {type(text).__name__}")
        return _parsed(text)

    def next_after(self, instant: int) -> int:
        """The first instant strictly after `instant`, in microseconds."""
        second = _second(instant)
        return min(_next(rule, second) for rule in self.rules) * SECOND

    def latest_at_or_before(self, instant: int, after: int) -> int | None:
        """The last instant in (after, instant], in microseconds, if there is one."""
        if instant <= after:
            return None
        following = _second(instant) + 1
        latest = max(int(_search(rule).get_prev(float, start_time=following)) for rule in self.rules) * SECOND
        return latest if latest > after else None

    def between(self, after: int, through: int, limit: int) -> list[int]:
        """The first instants, at most `limit`, in (after, through], rising, in microseconds."""
        if through <= after:
            return []
        return list(islice(takewhile(lambda instant: instant <= through, self._following(after)), limit))

    def _following(self, after: int) -> Iterator[int]:
        second = _second(after)
        runs = (_search(rule).all_next(float, start_time=second) for rule in self.rules)
        return (int(instant) * SECOND for instant, _ in groupby(merge(*runs)))


def _second(instant: int) -> int:
    if not 0 <= instant < _LATEST:
        raise ValueError(f"instant {instant} is not in the years 1970 to 9989: give microseconds since the epoch")
    return instant // SECOND


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Schedule:
    return Schedule(text, rules(text))


@lru_cache(maxsize=8192)
def _next(rule: str, second: int) -> int:
    """Many cron tasks have the same schedule, and are asked for the same instants: a search takes a fifth of a millisecond."""
    return int(_search(rule).get_next(float, start_time=second))


def _search(rule: str) -> croniter:
    """A searcher of one's own: croniter keeps its place in itself, so a cached one must not be shared by threads."""
    return copy.copy(_compiled(rule))


@lru_cache(maxsize=2048)
def _compiled(rule: str) -> croniter:
    return croniter(rule, start_time=0)
