"""A row of the table: what happened to tasks in one kind of fault, and whether it was what is promised."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import measured


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault. `broken` says in words what was not as promised; an empty list means that the row is met.

    `lost`: tasks that were not completed, `twice`: tasks that were completed more than once; None where nothing of the
    kind can happen.
    """

    id: str
    what: str
    database: str
    seed: int
    broken: Sequence[str]
    lost: int | None = None
    twice: int | None = None
    stale_tried: int = 0
    stale_refused: int = 0
    kills: int = 0
    recoveries: int = 0
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return not self.broken

    def json(self) -> dict[str, Any]:
        names = ("id", "lost", "twice", "stale_tried", "stale_refused", "kills", "recoveries", "met")
        more = ("what", "database", "seed", "broken", "figures")
        return {name: getattr(self, name) for name in (*names, *more)}


def write(rows: Sequence[Row], path: Path) -> None:
    measured.keep((row.json() for row in rows), path)


COUNTS = ("lost", "twice", "stale_tried", "stale_refused", "kills", "recoveries")


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(title="faults")
    for heading in ("", "what", "database"):
        table.add_column(heading)
    for heading in COUNTS:
        table.add_column(heading.replace("_", " "), justify="right")
    table.add_column("figures")
    table.add_column("met")
    for row in rows:
        counts = [_count(getattr(row, name)) for name in COUNTS]
        figures = ", ".join(f"{name} {_shown(value)}" for name, value in row.figures.items() if not isinstance(value, dict))
        table.add_row(row.id, row.what, row.database, *counts, figures, "[green]yes" if row.met else "[red]no")
    console.print(table)
    for row in rows:
        for fault in row.broken:
            console.print(f"{row.id} (seed {row.seed}): {fault}", style="red", markup=False)


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
