"""The peer: pgqueuer on asyncpg, set up as its own documentation and benchmark tool advise.

That is: durable tables, `autovac` applied, uvloop (its command line uses it), intervals at their defaults, no tracer;
a pool for throughput (measured a sixth faster than one connection) and one direct connection for latency and idling
(faster and quieter than a pool). What it does not do (attempts, events, results, fencing) is not asked of it. A drain
ends when the last handler has run and its log row is written, without waiting for the next poll.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.lap import ready

PAYLOAD = b'{"n":1}'


def setup(url: str) -> None:
    async def install() -> None:
        async with _connected(url) as connection:
            queries = Queries(AsyncpgDriver(connection))
            await queries.install()
            await queries.optimize_autovacuum()

    uvloop.run(install())


def enqueue_bulk(url: str, n: int, size: int) -> float:
    """Seconds for `n` jobs, `size` a call."""

    async def enqueue() -> float:
        async with _connected(url) as connection:
            queries = Queries(AsyncpgDriver(connection))
            begun = time.perf_counter()
            for _ in range(n // size):
                await queries.enqueue(["noop"] * size, [PAYLOAD] * size, [0] * size)
            return time.perf_counter() - begun

    elapsed: float = uvloop.run(enqueue())
    return elapsed


def enqueue_one_by_one(url: str, n: int) -> float:
    """Seconds for `n` calls, each after the one before it."""

    async def enqueue() -> float:
        async with _connected(url) as connection:
            queries = Queries(AsyncpgDriver(connection))
            begun = time.perf_counter()
            for _ in range(n):
                await queries.enqueue("noop", PAYLOAD)
            return time.perf_counter() - begun

    elapsed: float = uvloop.run(enqueue())
    return elapsed


def drain(url: str, n: int, batch: int) -> float:
    """Seconds from the worker's start until the last of `n` queued jobs is settled."""

    async def work() -> float:
        async with asyncpg.create_pool(url, min_size=2, max_size=5) as pool:
            worker, left = PgQueuer(AsyncpgPoolDriver(pool)), n

            async def noop(job: Job) -> None:
                nonlocal left
                left -= 1
                if not left:
                    worker.shutdown.set()

            worker.entrypoint("noop")(noop)
            begun = time.perf_counter()
            await worker.qm.run(batch_size=batch)
            return time.perf_counter() - begun

    elapsed: float = uvloop.run(work())
    return elapsed


def watch(url: str, n: int) -> list[float]:
    """Milliseconds from each of `n` enqueue calls to the start of its handler, in an idle worker."""

    async def work() -> list[float]:
        async with _connected(url) as connection:
            worker, waits = PgQueuer(AsyncpgDriver(connection)), list[float]()

            async def timed(job: Job) -> None:
                waits.append((time.perf_counter_ns() - int(job.payload or b"0")) / 1e6)
                if len(waits) == n:
                    worker.shutdown.set()

            worker.entrypoint("timed")(timed)
            await asyncio.gather(worker.qm.run(), _ready_soon())
            return waits

    waits: list[float] = uvloop.run(work())
    return waits


def enqueue_paced(url: str, n: int, rate: int) -> None:
    """`n` enqueue calls, `rate` a second, each with the moment of the call as its payload."""

    async def enqueue() -> None:
        async with _connected(url) as connection:
            queries = Queries(AsyncpgDriver(connection))
            begun = time.perf_counter()
            for turn in range(n):
                await asyncio.sleep(max(0.0, begun + turn / rate - time.perf_counter()))
                await queries.enqueue("timed", str(time.perf_counter_ns()).encode())

    uvloop.run(enqueue())


def idle(url: str, types: int) -> None:
    """A worker with `types` handlers and nothing to do, until it is terminated."""

    async def work() -> None:
        async with _connected(url) as connection:
            worker = PgQueuer(AsyncpgDriver(connection))

            async def noop(job: Job) -> None: ...

            for number in range(types):
                worker.entrypoint(f"noop{number}")(noop)
            await asyncio.gather(worker.run(), _ready_soon())

    uvloop.run(work())


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _ready_soon() -> None:
    """The peer has no signal for `listening`; a second is far more than it needs."""
    await asyncio.sleep(1)
    ready()
