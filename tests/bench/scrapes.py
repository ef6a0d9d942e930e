"""Scrapes of a process that knows of very many types, timed. Each verb has a process, and so a registry, of its own."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
from prometheus_client import REGISTRY, disable_created_metrics, generate_latest

from bench.figures import percentile
from fibflow.client import Client
from fibflow.model import Outcome
from fibflow.store.database import Database
from fibflow.store.figures import queues, rest
from fibflow.store.health import database_health
from fibflow.store.tasktypes import Declaration
from fibflow_operator.observed import OBSERVED
from fibflow_worker.tallies import Tallies

SCRAPES = 21
FILL = """
INSERT INTO fibflow.task (state, order_key, type_id, priority, run_at, created_at, payload)
SELECT 'ready', n, types.id, 0, fibflow.fibflow_now(), fibflow.fibflow_now(), '{"n":1}'
FROM generate_series(1, %(tasks)s) n
JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM fibflow.task_type) types
    ON types.place = n %% (SELECT count(*) FROM fibflow.task_type)
"""


def of_a_worker(types: int) -> dict[str, float]:
    """Of one that has run attempts of every type, and did between any two scrapes."""
    tallies = Tallies()
    disable_created_metrics()  # type: ignore[no-untyped-call]
    REGISTRY.register(tallies)

    def work() -> None:
        for number in range(types):
            tallies.claimed([(f"type-{number}", 0.01)])
            tallies.completed([(f"type-{number}", 0.1)])
            for outcome in set(Outcome) - {Outcome.COMPLETED}:
                tallies.ended(f"type-{number}", outcome, 0.1, again=True, for_good=False)

    return _timed(work)


def of_an_operator(url: str, types: int, tasks: int) -> dict[str, float]:
    """Of one that leads, whose look at the database is timed, too."""
    client = Client(url)
    client.declare_types([Declaration(f"type-{number}") for number in range(types)])
    client.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL, {"tasks": tasks})
        connection.execute("VACUUM ANALYZE fibflow.task")
    database = Database(url)
    OBSERVED.health = database.call(database_health)
    looks: list[float] = []

    def look() -> None:
        begun = time.perf_counter()
        OBSERVED.see(database.call(queues), database.call(rest))
        looks.append((time.perf_counter() - begun) * 1e3)

    found = _timed(look) | {"look_milliseconds": percentile(looks, 0.5)}
    database.close()
    return found


def _timed(before: Callable[[], Any]) -> dict[str, float]:
    """The median and the longest of some scrapes, what is to be done before each, and the series of the last."""
    spans, text = [], b""
    for _ in range(SCRAPES):
        before()
        begun = time.perf_counter()
        text = generate_latest(REGISTRY)
        spans.append((time.perf_counter() - begun) * 1e3)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    return {"milliseconds": percentile(spans, 0.5), "longest": max(spans), "series": series}
