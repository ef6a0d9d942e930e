"""The bare loop: what the same rows cost when no library stands between them and the database.

For P1 it claims with a fence, runs a no-op coroutine a task, and settles with a final row and an attempt row (and, if
asked, four event rows), through SQLAlchemy on psycopg, two turns at once. It has no lease, heartbeat, retry, limit or
error path. The latency floor for P3 is `floor_latency`.
"""

import asyncio
import time
from typing import Any, TypeAlias

import orjson
import sqlalchemy as sa
import uvloop
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

TURNS = 2
WORKER = 7

SCHEMA = """
CREATE TABLE task (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type_id int NOT NULL, ready boolean NOT NULL DEFAULT true,
  priority smallint NOT NULL DEFAULT 0, run_at timestamptz NOT NULL DEFAULT now(), payload text NOT NULL,
  fence bigint NOT NULL DEFAULT 0, worker_id bigint, started_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX task_claim ON task (type_id, priority DESC, run_at, id) WHERE ready;
CREATE INDEX task_held ON task (worker_id) WHERE NOT ready;
CREATE TABLE final (
  id bigint PRIMARY KEY, type_id int NOT NULL, payload text NOT NULL, result text NOT NULL, attempts bigint NOT NULL,
  created_at timestamptz NOT NULL, finished_at timestamptz NOT NULL
);
CREATE TABLE attempt (
  task_id bigint, fence bigint, worker_id bigint NOT NULL,
  started_at timestamptz NOT NULL, ended_at timestamptz NOT NULL,
  outcome smallint NOT NULL, error text, PRIMARY KEY (task_id, fence)
);
CREATE TABLE event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id bigint NOT NULL, type smallint NOT NULL,
  fence bigint NOT NULL, worker_id bigint NOT NULL, at timestamptz NOT NULL DEFAULT now()
)
"""

ENQUEUE = sa.text("""
INSERT INTO task (type_id, priority, payload)
SELECT 1, place % :priorities, payload FROM unnest(CAST(:payloads AS text[])) WITH ORDINALITY AS new (payload, place)
RETURNING id
""")

CLAIM = sa.text("""
WITH next AS MATERIALIZED (
  SELECT id FROM task WHERE ready AND type_id = 1 AND run_at <= now()
  ORDER BY priority DESC, run_at, id LIMIT :batch FOR UPDATE SKIP LOCKED)
UPDATE task SET ready = false, fence = fence + 1, worker_id = :worker, started_at = clock_timestamp()
FROM next WHERE task.id = next.id RETURNING task.id, task.fence, task.payload
""")

# Every guard is a join qual, so that the primary key is the only way in, whatever the planner believes.
_GONE = """
WITH settled AS (
  SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:fences AS bigint[]), CAST(:workers AS bigint[]),
                       CAST(:results AS text[])) AS settled (id, fence, worker_id, result)),
gone AS (
  DELETE FROM task USING settled
  WHERE task.id = settled.id AND task.fence = settled.fence AND task.worker_id = settled.worker_id
  RETURNING task.*, settled.result),
kept AS (
  INSERT INTO final SELECT id, type_id, payload, result, fence, created_at, clock_timestamp() FROM gone),
tried AS (
  INSERT INTO attempt SELECT id, fence, worker_id, started_at, clock_timestamp(), 1 FROM gone)
"""
SETTLE = sa.text(_GONE + "SELECT id FROM gone")
SETTLE_WITH_EVENTS = sa.text(
    _GONE
    + """,
told AS (
  INSERT INTO event (task_id, type, fence, worker_id)
  SELECT id, type, fence, worker_id FROM gone, (VALUES (1), (2), (3), (4)) story (type))
SELECT id FROM gone"""
)


Settled: TypeAlias = tuple[int, int, str]


def setup(url: str) -> None:
    with _engine(url).begin() as connection:
        connection.exec_driver_sql(SCHEMA)


def enqueue_bulk(url: str, n: int, size: int, priorities: int = 1) -> float:
    """Seconds for `n` tasks, `size` a statement, of so many priorities in turn."""
    with _engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        begun = time.perf_counter()
        for _ in range(n // size):
            connection.execute(ENQUEUE, {"payloads": ['{"n":1}'] * size, "priorities": priorities}).all()
        return time.perf_counter() - begun


def enqueue_one_by_one(url: str, n: int) -> float:
    """Seconds for `n` statements of one task each."""
    return enqueue_bulk(url, n, 1)


def drain(url: str, n: int, batch: int, events: bool = False) -> float:
    """Seconds from the first claim until all `n` queued tasks are settled."""
    elapsed: float = uvloop.run(_drain(url, n, batch, SETTLE_WITH_EVENTS if events else SETTLE))
    return elapsed


def settled_at(url: str) -> list[int]:
    """When each task was settled, in microseconds since the epoch, in order."""
    query = sa.text("SELECT CAST(extract(epoch FROM finished_at) * 1000000 AS bigint) FROM final ORDER BY 1")
    with _engine(url).connect() as connection:
        return list(connection.scalars(query))


async def _drain(url: str, n: int, batch: int, settle: sa.TextClause) -> float:
    engine = create_async_engine(_dialect(url))
    begun = time.perf_counter()
    settled = await asyncio.gather(*(_turn(engine, batch, settle) for _ in range(TURNS)))
    elapsed = time.perf_counter() - begun
    await engine.dispose()
    if sum(settled) != n:
        raise RuntimeError(f"{n} tasks were queued and {sum(settled)} were settled")
    return elapsed


async def _turn(engine: AsyncEngine, batch: int, settle: sa.TextClause) -> int:
    """Settle the last batch and claim the next in one transaction, until there is none; how many were settled."""
    done: list[Settled] = []
    count = 0
    while True:
        async with engine.begin() as connection:
            count += await _settle(connection, settle, done)
            claimed = (await connection.execute(CLAIM, {"batch": batch, "worker": WORKER})).all()
        if not claimed:
            return count
        done = await asyncio.gather(*(asyncio.create_task(_attempt(*row)) for row in claimed))


async def _settle(connection: AsyncConnection, settle: sa.TextClause, done: list[Settled]) -> int:
    if not done:
        return 0
    ids, fences, results = map(list, zip(*done, strict=True))
    values = {"ids": ids, "fences": fences, "workers": [WORKER] * len(ids), "results": results}
    return len((await connection.execute(settle, values)).all())


async def _attempt(task_id: int, fence: int, payload: str) -> Settled:
    result = await _noop(orjson.loads(payload))
    return task_id, fence, orjson.dumps(result).decode()


async def _noop(payload: Any) -> dict[str, bool]:
    return {"ok": True}


def _engine(url: str, **options: Any) -> sa.Engine:
    return sa.create_engine(_dialect(url), poolclass=sa.NullPool, **options)


def _dialect(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
