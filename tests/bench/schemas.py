"""The two designs of the tables, drained side by side: on no history, on a long one, and behind a held snapshot.

    cd tests && python -m bench.schemas

The same loop drains both: two connections, each of which settles its last batch and claims its next in one transaction.
It is no part of the table of `python -m bench`: it is how a decision was made, docs/decisions/0003-hot-and-final-tables.md
says with which result, and this repeats it.
"""

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass
from functools import partial
from statistics import median
from typing import Any

import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from bench.bloat import snapshot_held
from bench.course import SETTINGS, Course, Length
from bench.designs import CLAIM, ENQUEUE, ONE_TABLE, PAST_ATTEMPTS, TWO_TABLES, Design
from postgres_server import Server

BATCH = 500
CONNECTIONS = 2
WORKER = 7
MEBIBYTE = 1 << 20
SIZES = """
SELECT sum(pg_table_size(oid))::float8, sum(pg_indexes_size(oid))::float8
FROM pg_class WHERE relname IN ('task', 'task_final')"""
LOG = "SELECT pg_current_wal_insert_lsn() - '0/0'"

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Situation:
    name: str
    history: int
    held: bool = False


@dataclass(frozen=True, slots=True)
class Drained:
    """Tasks a second; the server's CPU time and bytes of log a task; MiB of tables of tasks and of indexes; seconds.

    On a machine that has other things to do, the CPU time says more than the rate.
    """

    rate: float
    microseconds: float
    log: float
    tables: float
    indexes: float
    vacuum: float


def main() -> None:
    asked, table = _arguments(), _table()
    with Server(SETTINGS) as server:
        _prepare(server, asked.history)
        for situation in _situations(asked.history):
            course = Course(server, Length.FULL, partial(Console(stderr=True, log_path=False).log, situation.name))
            drain = partial(partial, _drain, server, situation, asked.tasks)
            runs = course.in_turns(asked.rounds, {design.name: drain(design) for design in (TWO_TABLES, ONE_TABLE)})
            _add(table, situation, runs)
    Console(width=180).print(table)


def _situations(history: int) -> list[Situation]:
    return [
        Situation("no history", 0),
        Situation(f"{history:,} finished", history),
        Situation("snapshot held", 0, held=True),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.schemas", description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000, help="tasks to drain; 50,000 by default")
    parser.add_argument("--history", type=int, default=1_000_000, help="finished tasks in the tables; 1,000,000 by default")
    parser.add_argument("--rounds", type=int, default=5, help="drains of each design in each situation; 5 by default")
    return parser.parse_args()


# ── what is drained ───────────────────────────────────────────────────────────────────────────────────────────────


def _prepare(server: Server, history: int) -> None:
    """Databases to copy: each design, without and with finished tasks, vacuumed and analysed."""
    for design in (TWO_TABLES, ONE_TABLE):
        for finished in (0, history):
            with psycopg.connect(server.create(_template(design, finished)), autocommit=True) as connection:
                connection.execute(design.schema.encode())
                if finished:
                    _put_history(connection, design, finished)
                connection.execute("VACUUM (FREEZE, ANALYZE)")


def _put_history(connection: Connection, design: Design, finished: int) -> None:
    for statement in (design.history, PAST_ATTEMPTS, "SELECT setval('task_id_seq', %s)"):
        connection.execute(statement.encode(), [finished])


def _template(design: Design, history: int) -> str:
    return f"{design.name.replace(' ', '_')}_{history}"


@contextmanager
def _backlog(server: Server, design: Design, history: int, tasks: int) -> Iterator[str]:
    url = server.create("drained", _template(design, history))
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(ENQUEUE.encode(), [tasks])
            connection.execute("ANALYZE")
            connection.execute("CHECKPOINT")
        yield url
    finally:
        server.drop("drained")


# ── a drain ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _drain(server: Server, situation: Situation, tasks: int, design: Design) -> Drained:
    with _backlog(server, design, situation.history, tasks) as url:
        with snapshot_held(url) if situation.held else nullcontext():
            log, cpu = _one(server, LOG)[0], _cpu(server)
            rate = tasks / _seconds(url, design, tasks)
            log, cpu = (_one(server, LOG)[0] - log) / tasks, (_cpu(server) - cpu) / tasks
        tables, indexes = (size / MEBIBYTE for size in _one(server, SIZES, "drained"))
        return Drained(rate, cpu * 1e6, float(log), tables, indexes, _vacuum(url))


def _cpu(server: Server) -> float:
    """Seconds of CPU time that all processes of the server have used, those that ended too."""
    postmaster = psutil.Process(int((server.directory / "cluster" / "postmaster.pid").read_text().split()[0]))
    spent = 0.0
    for child in postmaster.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended, and is counted with the postmaster's below
            spent += sum(child.cpu_times()[:2])
    return spent + sum(postmaster.cpu_times()[:4])


def _one(server: Server, query: str, database: str = "postgres") -> tuple[Any, ...]:
    (row,) = server.sql(query, database)
    return row


def _seconds(url: str, design: Design, tasks: int) -> float:
    """From the first claim until every task is settled."""
    with ExitStack() as stack, ThreadPoolExecutor(CONNECTIONS) as threads:
        connections = [stack.enter_context(psycopg.connect(url)) for _ in range(CONNECTIONS)]
        begun = time.perf_counter()
        settled = sum(threads.map(partial(_turns, design), connections))
        elapsed = time.perf_counter() - begun
    if settled != tasks:
        raise RuntimeError(f"{tasks} tasks were queued and {settled} were settled")
    return elapsed


def _turns(design: Design, connection: Connection) -> int:
    """Settle the last batch and claim the next, until there is none; how many were settled."""
    claimed: list[tuple[int, int]] = []
    count = 0
    while True:
        with connection.transaction():
            count += _settle(connection, design, claimed) if claimed else 0
            claimed = connection.execute(CLAIM, [BATCH, WORKER]).fetchall()
        if not claimed:
            return count


def _settle(connection: Connection, design: Design, claimed: list[tuple[int, int]]) -> int:
    ids, fences = map(list, zip(*claimed, strict=True))
    given = [ids, fences, [WORKER] * len(ids), ['{"ok":true}'] * len(ids)]
    return connection.execute(design.settle.encode(), given).rowcount


def _vacuum(url: str) -> float:
    """Seconds to clear away what the drain left dead in the table that is claimed from."""
    with psycopg.connect(url, autocommit=True) as connection:
        begun = time.perf_counter()
        connection.execute("VACUUM task")
        return time.perf_counter() - begun


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _table() -> Table:
    table = Table("", "", title="where finished tasks lie: medians of drains taken in turns")
    for column in ("tasks/s", "of", "ratio", "CPU, µs/task", "log, bytes/task", "tables, MiB", "indexes, MiB", "vacuum, s"):
        table.add_column(column, justify="right")
    return table


def _add(table: Table, situation: Situation, runs: dict[str, list[Drained]]) -> None:
    """A row for each design; its ratio is the median of those to the first design's drain of the same round."""
    first = next(iter(runs.values()))
    for name, drained in runs.items():
        ratio = median(one.rate / other.rate for one, other in zip(drained, first, strict=True))
        rate, cpu, log, *sizes, vacuum = map(median, zip(*map(astuple, drained), strict=True))
        rates = ", ".join(f"{one.rate / 1000:.1f}k" for one in drained)
        cells = [
            f"{rate:,.0f}",
            rates,
            f"{ratio:.2f}",
            f"{cpu:.1f}",
            f"{log:,.0f}",
            *(f"{size:.1f}" for size in sizes),
            f"{vacuum:.2f}",
        ]
        table.add_row(situation.name, name, *cells)


if __name__ == "__main__":
    main()
