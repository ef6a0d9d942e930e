"""What is asked of each row: now, and in the end."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Target:
    id: str
    what: str
    unit: str
    against: str
    now: float | None
    final: float
    sense: Literal["at least", "at most", "under"] = "at least"
    judged: Literal["ratio", "ours"] = "ratio"

    def met(self, value: float | None, bound: float | None) -> bool | None:
        """None when nothing is asked; what was not measured is not met."""
        if bound is None:
            return None
        if value is None:
            return False
        return {"at least": value >= bound, "at most": value <= bound, "under": value < bound}[self.sense]


TARGETS = {
    target.id: target
    for target in [
        Target("P1", "drain queued tasks", "tasks/s", "pgqueuer", now=1.3, final=2.0),
        Target("P1.bare", "drain queued tasks", "tasks/s", "bare loop", now=None, final=0.7),
        Target("P2.bulk", "enqueue in bulk", "tasks/s", "pgqueuer", now=1.3, final=2.0),
        Target("P2.single", "enqueue one at a time", "tasks/s", "pgqueuer", now=1.0, final=1.0),
        Target("P3.p50", "enqueue call to handler", "ms", "bare LISTEN/NOTIFY", now=1.6, final=1.6, sense="at most"),
        Target("P3.p99", "enqueue call to handler", "ms", "bare LISTEN/NOTIFY", now=1.6, final=1.6, sense="at most"),
        Target("P3.p50.peer", "enqueue call to handler", "ms", "pgqueuer", now=None, final=1.0, sense="at most"),
        Target("P3.p99.peer", "enqueue call to handler", "ms", "pgqueuer", now=None, final=1.0, sense="under"),
        Target("P3.p99.9.peer", "enqueue call to handler", "ms", "pgqueuer", now=None, final=1.0, sense="under"),
        Target("P5", "last tenth, snapshot held", "tasks/s", "first tenth", now=0.6, final=0.75),
        Target("P5.whole", "drain, snapshot held", "tasks/s", "no snapshot", now=None, final=0.75),
        Target("P5.three", "the same, 3 priorities", "tasks/s", "first tenth", now=None, final=0.75),
        Target("P5.three.whole", "the same, 3 priorities", "tasks/s", "no snapshot", now=None, final=0.75),
        Target("P9", "idle worker, 1 type", "statements/s", "pgqueuer", now=2.0, final=2.0, sense="under", judged="ours"),
        Target(
            "P9.fifty",
            "idle worker, 50 types",
            "statements/s",
            "pgqueuer",
            now=2.0,
            final=2.0,
            sense="under",
            judged="ours",
        ),
        Target("M1", "of a drain, to count and be scraped", "%", "-", now=2, final=2, sense="at most", judged="ours"),
        Target("M2.worker", "scrape, 10,000 types", "ms", "-", now=100, final=100, sense="at most", judged="ours"),
        Target("M2.operator", "scrape, 1,000,000 tasks", "ms", "-", now=100, final=100, sense="at most", judged="ours"),
        Target("M2.series", "series of a process", "", "-", now=5000, final=5000, sense="at most", judged="ours"),
    ]
}
