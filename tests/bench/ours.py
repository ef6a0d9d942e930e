"""fibflow itself, as a contestant: the narrow waist between the benchmark and the library.

Every function is called in a process of its own, by keyword, with an address of the form
`postgresql://user@host:port/database` and JSON values; what it returns must be JSON, too. Connecting is not timed,
calls are: each returned duration starts at the first call of the library's public API and ends when that API says
that the work is durable. `lap.ready()` tells the harness to go on. The library is used as the documentation tells a
user to, with everything on: attempts, events, fencing, results.
"""


def setup(url: str) -> None:
    """Migrate the empty database at `url`."""
    raise NotImplementedError("setup")


def enqueue_bulk(url: str, n: int, size: int, priorities: int = 1) -> float:
    """Seconds for `n` tasks of one type with payload {"n": 1}, `size` a call; task k has priority k % `priorities`."""
    raise NotImplementedError("enqueue_bulk")


def enqueue_one_by_one(url: str, n: int) -> float:
    """Seconds for `n` calls that enqueue one task each, each call after the one before it returned."""
    raise NotImplementedError("enqueue_one_by_one")


def drain(url: str, n: int, slots: int) -> float:
    """Seconds from the start of one worker, in this process, until the last of the `n` queued tasks is settled.

    The handler of the type that `enqueue_bulk` uses is `async def noop(ctx, n): return {"ok": True}`. Start-up of the
    worker (its row in the database) counts, as it does for the peer; raise if not exactly `n` tasks were completed.
    """
    raise NotImplementedError("drain")


def settled_at(url: str) -> list[int]:
    """`finished_at` of every task in the final table, in microseconds since the epoch, ascending."""
    raise NotImplementedError("settled_at")


def watch(url: str, n: int) -> list[float]:
    """Milliseconds from each of `n` enqueue calls to the start of its handler, seen by one idle worker in this process.

    Call `lap.ready()` once the worker listens. The first thing that the handler does is to append
    `(time.perf_counter_ns() - at) / 1e6`, where `at` comes from the payload that `enqueue_paced` sent: the clock is the
    machine's, the same in both processes. Return after the n-th.
    """
    raise NotImplementedError("watch")


def enqueue_paced(url: str, n: int, rate: int) -> None:
    """`n` calls of one task each, `rate` a second, with payload {"at": time.perf_counter_ns()} read just before."""
    raise NotImplementedError("enqueue_paced")


def idle(url: str, types: int) -> None:
    """One worker with `types` registered handlers and nothing to do, with default intervals, until it is terminated.

    Call `lap.ready()` once the worker listens.
    """
    raise NotImplementedError("idle")
