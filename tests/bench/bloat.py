"""P5: a long drain while another session holds a snapshot open, so that no dead row can be removed.

Rates of the first and the last tenth come from the moments at which tasks were settled, as the tables tell them. The
bare loop runs beside it for orientation: it has nothing that spares its claim the dead entries.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import psycopg

from bench import lap
from bench.course import Course
from bench.figures import first_and_last_tenth, middle
from bench.report import Row, row

Rates = dict[str, float]


def measure(course: Course) -> list[Row]:
    n = course.size(500_000, 50_000)
    drain = partial(partial, _rates, course, n)
    runners = {
        "ours": drain("ours", held=False, slots=1000),
        "ours, held": drain("ours", held=True, slots=1000),
        "ours, 3 priorities": drain("ours", held=False, priorities=3, slots=1000),
        "ours, 3 priorities, held": drain("ours", held=True, priorities=3, slots=1000),
        "bare": drain("floor", held=False, batch=1000),
        "bare, held": drain("floor", held=True, batch=1000),
    }
    runs = course.in_turns(course.rounds(2, 1), runners)
    at = {name: {part: middle([run[part] for run in of]) for part in ("whole", "first", "last")} for name, of in runs.items()}
    detail = {"tasks": n, "medians": at, "runs": runs}
    return [
        row("P5", at["ours, held"]["last"], at["ours, held"]["first"], **detail),
        row("P5.whole", at["ours, held"]["whole"], at["ours"]["whole"]),
        row("P5.three", at["ours, 3 priorities, held"]["last"], at["ours, 3 priorities, held"]["first"]),
        row("P5.three.whole", at["ours, 3 priorities, held"]["whole"], at["ours, 3 priorities"]["whole"]),
    ]


def _rates(course: Course, n: int, contestant: str, *, held: bool, priorities: int = 1, **arguments: int) -> Rates:
    with course.backlog(contestant, n, priorities=priorities) as url, snapshot_held(url) if held else nullcontext():
        seconds = lap.run(contestant, "drain", url=url, n=n, **arguments)
        first, last = first_and_last_tenth(lap.run(contestant, "settled_at", url=url))
    return {"whole": n / seconds, "first": first, "last": last}


@contextmanager
def snapshot_held(url: str) -> Iterator[None]:
    """A transaction that has looked once and then stays open: everything deleted since must be kept for it."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM pg_class")
        yield
        connection.rollback()
