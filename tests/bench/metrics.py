"""M1 and M2: what metrics cost: of a drain's throughput, and of a scrape when there are very many types and tasks.

A drain with metrics is also scraped every second. Very many are ten thousand task types, a million tasks.
"""

from bench import lap
from bench.course import Course
from bench.drain import rate
from bench.figures import middle
from bench.report import Row, row


def measure(course: Course) -> list[Row]:
    n = course.size(50_000, 20_000)
    on, off = rate(course, n, "ours", slots=1000, metrics="scraped"), rate(course, n, "ours", slots=1000, metrics="none")
    runs = course.in_turns(course.rounds(9, 3), {"with": on, "without": off})
    cost = row("M1", middle(runs["with"]), middle(runs["without"]), tasks=n, runs=runs)
    types, tasks = course.size(10_000, 10_000), course.size(1_000_000, 200_000)
    course.say(f"scrapes with {types} types and {tasks} tasks")
    worker = lap.run("scrapes", "of_a_worker", types=types)
    with course.database("ours") as url:
        operator = lap.run("scrapes", "of_an_operator", url=url, types=types, tasks=tasks)
    size = {"types": types, "tasks": tasks}
    return [
        cost,
        row("M2.worker", worker["milliseconds"], None, **size, **worker),
        row("M2.operator", operator["milliseconds"], None, **size, **operator),
        row("M2.series", max(worker["series"], operator["series"]), None),
    ]
