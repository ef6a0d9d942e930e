"""P1: a backlog emptied by one worker process, beside the peer and the bare loop, each at its best batch size."""

from collections.abc import Callable
from functools import partial
from typing import Any

from bench import lap
from bench.course import Course
from bench.figures import middle
from bench.report import Row, row


def measure(course: Course) -> list[Row]:
    n = course.size(50_000, 20_000)
    drain = partial(rate, course, n)
    peer = {f"pgqueuer, batch {batch}": drain("pgqueuer_peer", batch=batch) for batch in (100, 500, 1000)}
    bare = {f"bare loop, batch {batch}": drain("floor", batch=batch) for batch in (500, 1000)}
    told = {"bare loop with events": drain("floor", batch=1000, events=True)}
    runs = course.in_turns(course.rounds(5, 3), {"ours": drain("ours", slots=1000)} | peer | bare | told)
    medians = {name: middle(rates) for name, rates in runs.items()}
    ours, detail = medians["ours"], {"tasks": n, "medians": medians, "runs": runs}
    return [row("P1", ours, _best(medians, peer), **detail), row("P1.bare", ours, _best(medians, bare), **detail)]


def rate(course: Course, n: int, contestant: str, **arguments: Any) -> Callable[[], float]:
    """A lap that drains a backlog of its own, in tasks a second."""

    def lapped() -> float:
        with course.backlog(contestant, n) as url:
            return n / float(lap.run(contestant, "drain", url=url, n=n, **arguments))

    return lapped


def _best(medians: dict[str, float | None], names: dict[str, Any]) -> float | None:
    return max((rate for name in names if (rate := medians[name]) is not None), default=None)
