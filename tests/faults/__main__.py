"""Run the rows, print the table, write build/faults.json; the exit code says whether every row is met."""

import argparse
import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from faults import cuts, kills, late, rows, stops
from faults.course import Course
from postgres_server import Server

OUTPUT = Path(__file__).parents[2] / "build" / "faults.json"

ROWS: dict[str, list[Callable[[Course], rows.Row]]] = {
    "F1": [kills.on_postgresql],
    "F2": [kills.on_sqlite],
    "F3": [stops.on_postgresql, stops.on_sqlite, cuts.measure],
    "late": [late.measure],
}


def main() -> int:
    asked = _arguments()
    progress = Console(stderr=True, log_path=False)
    progress.log(f"seed {asked.seed}")
    found: list[rows.Row] = []
    with Server() as server:
        for id in asked.only:
            course = Course(server, asked.seed, asked.quick, partial(progress.log, id))
            found += [measure(course) for measure in ROWS[id]]
    rows.write(found, OUTPUT)
    rows.show(found, Console(width=None if sys.stdout.isatty() else 160))
    return 0 if all(row.met for row in found) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--only", type=_ids, default=list(ROWS), metavar=",".join(ROWS), help="rows to run; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer tasks and faults: a minute instead of some")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help="of everything that is drawn")
    return parser.parse_args()


def _ids(text: str) -> list[str]:
    ids = text.split(",")
    if unknown := [id for id in ids if id not in ROWS]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return ids


if __name__ == "__main__":
    sys.exit(main())
