"""A row of the table: two figures, their ratio, and what is asked of it. Written as JSON and shown by rich."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import measured
from bench.targets import TARGETS, Target

LOOPS = "Event loops: ours asyncio's own, as the worker program has it; pgqueuer and the bare drain uvloop."


@dataclass(frozen=True, slots=True)
class Row:
    target: Target
    ours: float | None
    peer: float | None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.ours is not None and self.peer else None

    @property
    def met(self) -> bool | None:
        return self.target.met(self._judged(), self.target.now)

    @property
    def finally_met(self) -> bool | None:
        return self.target.met(self._judged(), self.target.final)

    def _judged(self) -> float | None:
        return self.ratio if self.target.judged == "ratio" else self.ours

    def json(self) -> dict[str, Any]:
        target = self.target
        asked = {"what": target.what, "against": target.against, "sense": target.sense, "judged": target.judged}
        return {
            "id": target.id,
            "ours": self.ours,
            "peer": self.peer,
            "ratio": self.ratio,
            "target": target.now,
            "met": self.met,
            "unit": target.unit,
            "detail": asked | {"final": target.final, "final_met": self.finally_met} | self.detail,
        }


def row(id: str, ours: float | None, peer: float | None, **detail: Any) -> Row:
    return Row(TARGETS[id], ours, peer, detail)


def write(rows: list[Row], path: Path) -> None:
    measured.keep((row.json() for row in rows), path)


def show(rows: list[Row], console: Console) -> None:
    table = Table(title="fibflow, side by side", caption=LOOPS)
    for heading in ("", "what", "against"):
        table.add_column(heading)
    for heading in ("ours", "theirs", "ratio", "asked now", "in the end"):
        table.add_column(heading, justify="right")
    for row in rows:
        target = row.target
        figures = [_figure(value, target.unit) for value in (row.ours, row.peer)]
        verdicts = [_verdict(target, target.now, row.met), _verdict(target, target.final, row.finally_met)]
        table.add_row(target.id, target.what, target.against, *figures, _number(row.ratio), *verdicts)
    console.print(table)


def _verdict(target: Target, bound: float | None, met: bool | None) -> str:
    if bound is None:
        return "-"
    sign = {"at least": "≥", "at most": "≤", "under": "<"}[target.sense]
    return f"[{'green' if met else 'red'}]{sign} {bound:g} {'yes' if met else 'no'}"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{_number(value)} {unit}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
