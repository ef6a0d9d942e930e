"""The least that a queue on PostgreSQL can take from an enqueue call to its handler: LISTEN/NOTIFY by hand.

One statement inserts and notifies; the worker wakes, claims by UPDATE … SKIP LOCKED, calls the handler and deletes
the row. No transaction block, no pool, no event loop: two blocking connections, so nothing stands between socket and
handler.
"""

import time

import psycopg

from bench.lap import ready

SCHEMA = """
CREATE TABLE task (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ready boolean NOT NULL DEFAULT true, payload text NOT NULL
);
CREATE INDEX task_claim ON task (id) WHERE ready
"""

ENQUEUE = "WITH task AS (INSERT INTO task (payload) VALUES (%s) RETURNING id) SELECT id, pg_notify('task', '') FROM task"

CLAIM = """
UPDATE task SET ready = false
WHERE id IN (SELECT id FROM task WHERE ready ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED) RETURNING id, payload
"""

SETTLE = "DELETE FROM task WHERE id = ANY(%s)"


def setup(url: str) -> None:
    with _connected(url) as connection:
        connection.execute(SCHEMA)


def watch(url: str, n: int) -> list[float]:
    """Milliseconds from each of `n` enqueue calls to the start of its handler, in an idle worker."""
    waits: list[float] = []
    with _connected(url) as connection:
        connection.execute("LISTEN task")
        ready()
        while len(waits) < n:
            for _ in connection.notifies(stop_after=1):
                pass
            claimed = connection.execute(CLAIM).fetchall()
            waits += [(time.perf_counter_ns() - int(payload)) / 1e6 for _, payload in claimed]
            connection.execute(SETTLE, [[id for id, _ in claimed]])
    return waits


def enqueue_paced(url: str, n: int, rate: int) -> None:
    """`n` enqueue calls, `rate` a second, each with the moment of the call as its payload."""
    with _connected(url) as connection:
        begun = time.perf_counter()
        for turn in range(n):
            time.sleep(max(0.0, begun + turn / rate - time.perf_counter()))
            connection.execute(ENQUEUE, [str(time.perf_counter_ns())])


def _connected(url: str) -> psycopg.Connection[tuple[int, str]]:
    return psycopg.connect(url, autocommit=True)
