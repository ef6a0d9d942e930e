"""P9: what workers with nothing to do ask of the database, counted by pg_stat_statements, BEGIN and COMMIT included.

All of them idle at the same time, each in a database of its own, by which their statements are told apart.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import lap
from bench.course import Course
from bench.lap import Absent
from bench.report import Row, row

CONTESTANTS = {"ours": "ours", "pgqueuer": "pgqueuer_peer"}
SETTLING = 8
"""Seconds after which every worker has done all that it does once, its first heartbeat among it."""
COUNTED = """
SELECT datname, sum(calls)::float8, sum(wal_bytes)::float8
FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid WHERE datname LIKE 'idle_%' GROUP BY datname
"""


def measure(course: Course) -> list[Row]:
    course.server.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    with ExitStack() as workers:
        idling = []
        for name, module in CONTESTANTS.items():
            for types in (1, 50):
                try:
                    workers.enter_context(_worker(course, f"idle_{name}_{types}", module, types))
                    idling.append(f"idle_{name}_{types}")
                except Absent as absent:
                    course.skipped(name, absent)
        asked = _a_second(course, idling)
    statements = {name: rates["statements"] for name, rates in asked.items()}
    return [
        row("P9", statements.get("idle_ours_1"), statements.get("idle_pgqueuer_1"), per_second=asked),
        row("P9.fifty", statements.get("idle_ours_50"), statements.get("idle_pgqueuer_50")),
    ]


@contextmanager
def _worker(course: Course, name: str, module: str, types: int) -> Iterator[None]:
    with course.database(module, name) as url, lap.begun(module, "idle", url=url, types=types) as worker:
        worker.wait_until_ready()
        yield


def _a_second(course: Course, databases: list[str]) -> dict[str, dict[str, float]]:
    """Statements and WAL bytes a second of each database, once start-up is over."""
    seconds = course.size(60, 20)
    course.say(f"counting statements for {seconds} s: {', '.join(databases)}")
    time.sleep(SETTLING)
    course.server.sql("SELECT pg_stat_statements_reset()")
    time.sleep(seconds)
    counted = {name: (calls, wal) for name, calls, wal in course.server.sql(COUNTED)}
    rates = {name: counted.get(name, (0.0, 0.0)) for name in databases}
    return {name: {"statements": calls / seconds, "wal_bytes": wal / seconds} for name, (calls, wal) in rates.items()}
