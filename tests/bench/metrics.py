"""M1 and M2: what metrics cost: of a drain's time, and of a scrape when there are very many types and tasks.

The cost is timed where it is spent, in a drain that is scraped every second: two drains, one without metrics, differ by more
than the hundredth that is looked for. Very many are ten thousand task types, a million tasks.
"""

from bench import lap
from bench.course import Course
from bench.figures import middle
from bench.report import Row, row


def measure(course: Course) -> list[Row]:
    n = course.size(50_000, 20_000)
    shares = [_share(course, n) for _ in range(course.rounds(5, 3))]
    types, tasks = course.size(10_000, 10_000), course.size(1_000_000, 200_000)
    course.say(f"scrapes with {types} types and {tasks} tasks")
    worker = lap.run("scrapes", "of_a_worker", types=types)
    with course.database("ours") as url:
        operator = lap.run("scrapes", "of_an_operator", url=url, types=types, tasks=tasks)
    size = {"types": types, "tasks": tasks}
    return [
        row("M1", middle(shares), None, tasks=n, runs=shares),
        row("M2.worker", worker["milliseconds"], None, **size, **worker),
        row("M2.operator", operator["milliseconds"], None, **size, **operator),
        row("M2.series", max(worker["series"], operator["series"]), None),
    ]


def _share(course: Course, n: int) -> float:
    """Percent of a drain's time that metrics take."""
    course.say("drain, metrics timed")
    with course.backlog("ours", n) as url:
        return 100 * float(lap.run("ours", "share_of_metrics", url=url, n=n, slots=1000))
