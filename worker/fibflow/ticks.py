"""Which instants of a cron task run: the decision, as a value.

Pure: the caller reads the cron row, locks it, asks `decide`, and stores ticks and `decided_through` in one transaction.
It knows neither store nor clock. The instants come from `schedule`; what becomes of a tick's task is in `lifecycle`.

**Every instant is decided once.** A decision taken at `now` covers exactly the instants in (decided_through, now], and
its new `decided_through` is that same `now`, to the microsecond. The next one begins right behind it, so none is lost
and none comes twice. A `now` at or before `decided_through` (the clock was stepped back) decides nothing and leaves
`decided_through` alone: the instants the clock passes again were decided already.

1. An instant at most 10 s late is on time, and due to run.
2. Older ones are missed. `Skip` skips them all; `RunLatest` runs the latest of them, if no instant is on time.
3. Under `Forbid`, what is due to run is skipped as overlap while another tick is not final, be it one of before or one
   that this decision has just chosen.

The cost does not grow with the gap: at most 11 instants are on time, and missed ones are one range, counted to 1000.
"""

from dataclasses import dataclass
from enum import StrEnum

from fibflow.model import ConcurrencyPolicy, MissedRunPolicy
from fibflow.schedule import SECOND, Schedule

ON_TIME = 10 * SECOND
MOST_ON_TIME = ON_TIME // SECOND + 1
MOST_COUNTED = 1000


class SkipReason(StrEnum):
    MISSED = "missed"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True)
class Tick:
    """One due instant: it runs, or is skipped for a reason."""

    instant: int
    reason: SkipReason | None = None

    @property
    def run(self) -> bool:
        return self.reason is None


@dataclass(frozen=True, slots=True)
class SkippedRange:
    """All instants from `first` to `last`, skipped together. `count` is None if there are more than 1000."""

    first: int
    last: int
    count: int | None
    reason: SkipReason = SkipReason.MISSED


@dataclass(frozen=True, slots=True)
class Decision:
    """What to store: the ticks by rising instant, and how far the schedule is decided now."""

    ticks: tuple[Tick | SkippedRange, ...]
    decided_through: int


def decide(
    due_from: int,
    now: int,
    schedule: Schedule,
    policy: MissedRunPolicy = MissedRunPolicy.RUN_LATEST,
    overlap: ConcurrencyPolicy = ConcurrencyPolicy.FORBID,
    active: int = 0,
) -> Decision:
    """Decide the instants in (due_from, now], where `due_from` is the row's `decided_through`.

    `active` is the number of the cron task's ticks that are not final. Instants are microseconds since the epoch.
    """
    if now <= due_from:
        return Decision((), due_from)
    missed_through = max(due_from, now - ON_TIME - 1)
    due = schedule.between(missed_through, now, MOST_ON_TIME)
    if policy is MissedRunPolicy.RUN_LATEST and not due:
        latest = schedule.latest_at_or_before(missed_through, due_from)
        if latest is not None:
            due, missed_through = [latest], latest - 1
    return Decision((*missed(schedule, due_from, missed_through), *_ticks(due, overlap, active)), now)


def missed(schedule: Schedule, after: int, through: int) -> list[SkippedRange]:
    """The instants in (after, through] as one range, if there are any."""
    last = schedule.latest_at_or_before(through, after)
    if last is None:
        return []
    counted = schedule.between(after, last, MOST_COUNTED + 1)
    return [SkippedRange(counted[0], last, len(counted) if len(counted) <= MOST_COUNTED else None)]


def _ticks(due: list[int], overlap: ConcurrencyPolicy, active: int) -> list[Tick]:
    ticks = []
    for instant in due:
        tick = Tick(instant, SkipReason.OVERLAP if overlap is ConcurrencyPolicy.FORBID and active else None)
        ticks.append(tick)
        active += tick.run
    return ticks
