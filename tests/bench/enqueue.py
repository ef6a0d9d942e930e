"""P2: tasks enqueued in calls of 1,000, and one call after another; the bare statement beside them."""

from functools import partial

from bench import lap
from bench.course import Course
from bench.figures import middle
from bench.report import Row, row

CONTESTANTS = {"ours": "ours", "pgqueuer": "pgqueuer_peer", "bare statement": "floor"}


def measure(course: Course) -> list[Row]:
    return [
        _row(course, "P2.bulk", "enqueue_bulk", course.size(100_000, 50_000), size=1000),
        _row(course, "P2.single", "enqueue_one_by_one", course.size(3_000, 1_000)),
    ]


def _row(course: Course, id: str, verb: str, n: int, **arguments: int) -> Row:
    runners = {name: partial(_rate, course, module, verb, n, **arguments) for name, module in CONTESTANTS.items()}
    runs = course.in_turns(course.rounds(5, 5), runners)
    medians = {name: middle(rates) for name, rates in runs.items()}
    return row(id, medians["ours"], medians["pgqueuer"], tasks=n, medians=medians, runs=runs)


def _rate(course: Course, contestant: str, verb: str, n: int, **arguments: int) -> float:
    with course.database(contestant) as url:
        return n / float(lap.run(contestant, verb, url=url, n=n, **arguments))
