"""fibflow itself, as a contestant: the narrow waist between the benchmark and the library.

Every function is called in a process of its own, by keyword, with an address of the form
`postgresql://user@host:port/database` and JSON values; what it returns must be JSON, too. Connecting is not timed,
calls are, except that a drain's worker connects by itself. The library is used as the documentation tells a user to,
with everything on: attempts, events, fencing, results; the event loop is asyncio's own, as in the worker program.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import psycopg
import tenacity
from prometheus_client import generate_latest

from bench import lap
from fibflow.app import App
from fibflow.client import Client
from fibflow.context import AsyncContext
from fibflow.model import Json, NewTask, Options
from fibflow.store.database import Database
from fibflow.store.migrate import migrate
from fibflow_worker.lanes import Lanes
from fibflow_worker.runtime import Worker
from fibflow_worker.serving import serve, show
from fibflow_worker.settings import Settings
from fibflow_worker.tallies import Tallies

Handler = Callable[[AsyncContext, Any], Coroutine[Any, Any, Json]]

LISTENING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
FINISHED = "SELECT finished_at FROM fibflow.task_final ORDER BY finished_at"


def setup(url: str) -> None:
    """Migrate the empty database, and declare the types that are enqueued before a worker runs."""
    migrate(url)
    database = Database(url)
    _app({"noop": _noop, "timed": _noop}).sync(database)
    database.close()


def enqueue_bulk(url: str, n: int, size: int, priorities: int = 1) -> float:
    """Seconds for `n` tasks, `size` a call, of so many priorities in equal parts; within a call, one after another."""
    client = _connected(url)
    options = [Options(priority=priority) for priority in range(priorities)]
    begun = time.perf_counter()
    for _ in range(n // size):
        client.enqueue_many([NewTask("noop", {"n": 1}, options=options[k * priorities // size]) for k in range(size)])
    return time.perf_counter() - begun


def enqueue_one_by_one(url: str, n: int) -> float:
    """Seconds for `n` calls that enqueue one task each, each call after the one before it returned."""
    client = _connected(url)
    begun = time.perf_counter()
    for _ in range(n):
        client.enqueue("noop", {"n": 1})
    return time.perf_counter() - begun


def share_of_metrics(url: str, n: int, slots: int) -> float:
    """Of a drain's time, what goes into counting, and into scrapes of this worker and its process every second."""
    spent: list[float] = []
    for owner, method in ((Tallies, "claimed"), (Tallies, "completed"), (Lanes, "pickups")):
        setattr(owner, method, _timed(getattr(owner, method), spent))
    elapsed = drain(url, n, slots, scraped=spent)
    return sum(spent) / elapsed


def _timed(method: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*args: Any) -> Any:
        begun = time.perf_counter()
        result = method(*args)
        spent.append(time.perf_counter() - begun)
        return result

    return timed


def drain(url: str, n: int, slots: int, scraped: list[float] | None = None) -> float:
    """Seconds from the start of one worker until the last of the `n` queued tasks is settled and the worker has ended.

    `scraped`: scrape it every second, and note the CPU seconds of each scrape there.
    """
    left = n

    async def noop(ctx: AsyncContext, payload: Json) -> Json:
        nonlocal left
        left -= 1
        if not left:
            worker.stop()
        return await _noop(ctx, payload)

    worker = Worker(_app({"noop": noop}), Database(url), Settings(slots=slots))
    if scraped is not None:
        show(worker)
        threading.Thread(target=_scrape, args=(scraped,), daemon=True).start()
    begun = time.perf_counter()
    asyncio.run(serve(worker))
    elapsed = time.perf_counter() - begun
    _check_completed(url, n)
    return elapsed


def _scrape(spent: list[float]) -> None:
    while True:
        begun = time.thread_time()
        generate_latest()
        spent.append(time.thread_time() - begun)
        time.sleep(1)


def settled_at(url: str) -> list[int]:
    """When each task was settled, in microseconds since the epoch, in order."""
    with psycopg.connect(url) as connection:
        return [instant for (instant,) in connection.execute(FINISHED)]


def watch(url: str, n: int) -> list[float]:
    """Milliseconds from each of `n` enqueue calls to the start of its handler, seen by one idle worker in this process."""
    waits: list[float] = []

    async def timed(ctx: AsyncContext, payload: Any) -> None:
        waits.append((time.perf_counter_ns() - payload["at"]) / 1e6)
        if len(waits) == n:
            worker.stop()

    worker = Worker(_app({"timed": timed}), Database(url))
    asyncio.run(_run_and_tell(worker, url))
    return waits


def enqueue_paced(url: str, n: int, rate: int) -> None:
    """`n` calls of one task each, `rate` a second, each with the moment of the call as its payload."""
    client = _connected(url)
    begun = time.perf_counter()
    for turn in range(n):
        time.sleep(max(0.0, begun + turn / rate - time.perf_counter()))
        client.enqueue("timed", {"at": time.perf_counter_ns()})


def idle(url: str, types: int) -> None:
    """One worker with `types` registered handlers and nothing to do, with default intervals, until it is terminated."""
    worker = Worker(_app({f"noop{number}": _noop for number in range(types)}), Database(url))
    asyncio.run(_run_and_tell(worker, url))


async def _noop(ctx: AsyncContext, payload: Json) -> Json:
    return {"ok": True}


def _app(handlers: dict[str, Handler]) -> App:
    app = App()
    for name, handler in handlers.items():
        app.add(name, handler)
    return app


def _connected(url: str) -> Client:
    """A client whose first connection is there."""
    client = Client(url)
    client.types()
    return client


async def _run_and_tell(worker: Worker, url: str) -> None:
    await asyncio.gather(serve(worker), asyncio.to_thread(partial(_tell_when_listening, url)))


def _tell_when_listening(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        wait = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda row: row is None),
            wait=tenacity.wait_fixed(0.05),
            stop=tenacity.stop_after_delay(30),
        )
        wait(lambda: connection.execute(LISTENING).fetchone())
    lap.ready()


def _check_completed(url: str, n: int) -> None:
    client = Client(url)
    counted = {str(found.status): found.count for found in client.statistics(type="noop")}
    client.close()
    if counted != {"completed": n}:
        raise RuntimeError(f"{n} tasks were queued; in the end there are {counted}")
