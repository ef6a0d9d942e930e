"""Draw the chart's Grafana dashboard as an SVG, from a Prometheus that answers its queries; no Grafana is needed.

`python tools/dashboard.py http://localhost:9090 --minutes 30 > docs/dashboard.svg`, behind `kubectl port-forward`. It
draws lines and last values, by the places, titles, units and legends that the dashboard names, and nothing else of it.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

DASHBOARD = Path(__file__).parents[1] / "charts" / "fibflow" / "files" / "dashboard.json"
COLUMN, ROW, GAP = 50, 30, 4
STEPS = 120
"""Points of a line."""
MOST = 6
"""Series of a panel that its legend has room for."""
INK, MUTED, PAPER, CARD = "#ccccdc", "#8e8e9e", "#111217", "#181b1f"
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0")
SCALES = {
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    "s": ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "short": ((1e6, "M"), (1e3, "k"), (1, "")),
}

Ask = Callable[[str], Any]
"""Prometheus' answer, its `data`, to a path below /api/v1/."""


class Line(NamedTuple):
    """A series: its name in the legend, and its points."""

    name: str
    points: Sequence[tuple[float, float]]


class Span(NamedTuple):
    """From when to when, in seconds since the epoch."""

    begin: float
    end: float


def picture(ask: Ask, end: float, minutes: float, window: str = "1m") -> str:
    """The dashboard as it was at `end`, with so many minutes before it; rates are over a `window`."""
    dashboard = json.loads(DASHBOARD.read_text())
    span = Span(end - minutes * 60, end)
    drawn = [line for panel in dashboard["panels"] for line in _placed(panel, ask, span, window)]
    height = ROW * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    size = f'width="{24 * COLUMN}" height="{height}" viewBox="0 0 {24 * COLUMN} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, _box(0, 0, 24 * COLUMN, height, PAPER), *drawn, "</svg>"]) + "\n"


def _placed(panel: Mapping[str, Any], ask: Ask, span: Span, window: str) -> Iterator[str]:
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
    yield f'<g transform="translate({place["x"] * COLUMN},{place["y"] * ROW})">'
    if panel["type"] == "row":
        yield _text(6, height * 0.75, panel["title"], size=15)
    else:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        lines = [line for target in panel["targets"] for line in _lines(ask, target, span, window)]
        yield _box(0, 0, width, height, CARD)
        yield _text(8, 17, panel["title"])
        yield from (_value if panel["type"] == "stat" else _chart)(lines, unit, width, height, span)
    yield "</g>"


def _lines(ask: Ask, target: Mapping[str, Any], span: Span, window: str) -> list[Line]:
    query = target["expr"].replace("$__rate_interval", window).replace("$namespace", ".*")
    step = (span.end - span.begin) / STEPS
    path = f"query_range?query={quote(query)}&start={span.begin:.0f}&end={span.end:.0f}&step={step:.0f}"
    return [Line(_name(target["legendFormat"], each["metric"]), _points(each["values"])) for each in ask(path)["result"]]


def _name(legend: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        legend = legend.replace(f"{{{{{label}}}}}", value)
    return legend


def _points(values: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    return [(at, float(value)) for at, value in values if value not in ("NaN", "+Inf", "-Inf")]


def _value(lines: Sequence[Line], unit: str, width: float, height: float, span: Span) -> Iterator[str]:
    """A panel that shows the last value large, its course behind it."""
    told = [line for line in lines if line.points]
    if told:
        yield from _curves(told[:1], _Frame(0, height * 0.55, width, height * 0.4, span, _top(told)), opacity=0.35)
    last = shown(told[0].points[-1][1], unit) if told else "none"
    yield _text(width / 2, height * 0.62, last, size=26, colour=COLOURS[0], anchor="middle")


class _Frame(NamedTuple):
    """Where curves are drawn, and what is at its corners."""

    x: float
    y: float
    width: float
    height: float
    span: Span
    top: float

    def at(self, moment: float, value: float) -> str:
        across = (moment - self.span.begin) / (self.span.end - self.span.begin)
        return f"{self.x + self.width * across:.1f},{self.y + self.height * (1 - value / self.top):.1f}"


def _chart(lines: Sequence[Line], unit: str, width: float, height: float, span: Span) -> Iterator[str]:
    """A panel of curves, with an axis of values, one of time, and a legend of last values."""
    told = sorted((line for line in lines if line.points), key=lambda line: -line.points[-1][1])[:MOST]
    if not told:
        yield _text(width / 2, height / 2, "No data", colour=MUTED, anchor="middle")
        return
    rows = -(-len(told) // 2)
    frame = _Frame(58, 28, width - 70, height - 52 - 15 * rows, span, _top(told))
    for share in (0, 0.5, 1):
        y = frame.y + frame.height * (1 - share)
        yield f'<line x1="{frame.x}" x2="{frame.x + frame.width}" y1="{y}" y2="{y}" stroke="#2c3038"/>'
        yield _text(frame.x - 5, y + 4, shown(frame.top * share, unit), colour=MUTED, anchor="end")
    yield from _curves(told, frame)
    for share, anchor in ((0, "start"), (1, "end")):
        told_at = time.strftime("%H:%M:%S", time.gmtime(span.begin + share * (span.end - span.begin)))
        yield _text(frame.x + share * frame.width, frame.y + frame.height + 14, told_at, colour=MUTED, anchor=anchor)
    for number, (line, colour) in enumerate(zip(told, cycle(COLOURS), strict=False)):
        x, y = 12 + (number % 2) * width / 2, height - 8 - 15 * (rows - 1 - number // 2)
        yield _box(x, y - 7, 10, 4, colour)
        yield _text(x + 15, y, f"{line.name}  {shown(line.points[-1][1], unit)}")


def _curves(lines: Sequence[Line], frame: _Frame, opacity: float = 1) -> Iterator[str]:
    for line, colour in zip(lines, cycle(COLOURS), strict=False):
        path = " ".join(frame.at(*point) for point in line.points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="{opacity}"/>'


def _top(lines: Sequence[Line]) -> float:
    return max((value for line in lines for _, value in line.points), default=0) * 1.1 or 1


def shown(value: float, unit: str) -> str:
    """A value in its unit, as short as it can be read."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    scales = SCALES.get(unit, SCALES["short"])
    size, name = next((scale for scale in scales if abs(value) >= scale[0]), (1, ""))
    per_second = "/s" if unit == "ops" else ""
    return f"{value / size:.3g} {name}{per_second}".strip()


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, size: int = 11, colour: str = INK, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{escape(text)}</text>'


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prometheus", help="its address")
    parser.add_argument("--minutes", type=float, default=30, help="how much of the past (%(default)s)")
    parser.add_argument("--window", default="1m", help="what rates are taken over (%(default)s)")
    options = parser.parse_args()

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"{options.prometheus}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]

    print(picture(ask, time.time(), options.minutes, options.window), end="")


if __name__ == "__main__":
    main()
