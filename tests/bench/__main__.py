"""Run the rows, print the table, write the JSON; the exit code says whether everything asked now is met."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

from rich.console import Console

from bench import bloat, drain, enqueue, idle, latency, metrics, report
from bench.course import SETTINGS, Course, Length
from postgres_server import Server

OUTPUT = Path(__file__).parents[2] / "build" / "bench.json"

ROWS: dict[str, Callable[[Course], list[report.Row]]] = {
    "P1": drain.measure,
    "P2": enqueue.measure,
    "P3": latency.measure,
    "P5": bloat.measure,
    "P9": idle.measure,
    "M": metrics.measure,
}


def main() -> int:
    asked = _arguments()
    progress = Console(stderr=True, log_path=False, width=_width(sys.stderr))
    rows: list[report.Row] = []
    with Server(SETTINGS) as server:
        for id in asked.only:
            course = Course(server, asked.length, partial(progress.log, id))
            rows += ROWS[id](course)
    report.write(rows, asked.output)
    report.show(rows, Console(width=_width(sys.stdout)))
    return 0 if all(row.met is not False for row in rows) else 1


def _width(stream: TextIO) -> int | None:
    """The terminal's; in a file, wide enough for a row."""
    return None if stream.isatty() else 160


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", type=_ids, default=list(ROWS), metavar="P1,P3", help="rows to run; all by default")
    length = parser.add_mutually_exclusive_group()
    shorter = partial(length.add_argument, dest="length", action="store_const", default=Length.FULL)
    shorter("--quick", const=Length.QUICK, help="fewer tasks and rounds: minutes instead of a quarter of an hour")
    shorter("--tiny", const=Length.TINY, help="only to see that everything runs: the figures mean nothing")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the JSON file; build/bench.json by default")
    return parser.parse_args()


def _ids(text: str) -> list[str]:
    ids = text.split(",")
    if unknown := [id for id in ids if id not in ROWS]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return ids


if __name__ == "__main__":
    sys.exit(main())
