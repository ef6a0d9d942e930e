"""Write what follows from one source: the workers of a TaskType's own in crds/, the pages of docs/reference/, and the
chart's copies of what it installs.

`python tools/reference.py` writes them; a test says when they are out of date. What a field, a reason, a metric or a value
means is not written here.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fibflow.metrics import Described
from fibflow_operator.reasons import REASONS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
CHART = ROOT / "charts" / "fibflow"
OF_RESOURCES = runpy.run_path(str(Path(__file__).with_name("reference_of_resources.py")))
OF_CODE = runpy.run_path(str(Path(__file__).with_name("reference_of_code.py")))
ORDER = ("tasktype", "crontask", "workerpool")
MADE = "<!-- Made by tools/reference.py; a change here is lost. -->\n"


def pages() -> dict[str, str]:
    """The pages' texts by the names of their files."""
    of_code = {f"{name}.md": OF_CODE[name](MADE) for name in ("commands", "options", "context", "client")}
    definitions = [yaml.safe_load((ROOT / "crds" / f"{name}.yaml").read_text())["spec"] for name in ORDER]
    of_resources = {"resources.md": OF_RESOURCES["resources"](MADE, definitions), "reasons.md": reasons()}
    return {**of_resources, "values.md": values(), "metrics.md": metrics(), **of_code}


def copies() -> dict[str, str]:
    """The texts of files in the chart, which cannot reach outside of itself."""
    files = {f"files/crds/{name}.yaml": definition(name) for name in ORDER}
    return {**files, "files/rbac.yaml": (ROOT / "operator" / "rbac.yaml").read_text()}


# ── definitions ───────────────────────────────────────────────────────────────────────────────────────────────────────

BEGIN, END = "# Made by tools/reference.py from a WorkerPool's spec; a change here is lost.", "# Made until here."
OWN_WORKERS = """\
type: object
description: Workers of this type's own, which run no other; its fields are those of a WorkerPool. Not beside workerPoolRef.
"""


def definition(name: str) -> str:
    """A definition's text, in which `worker` of a TaskType has the schema of a WorkerPool's spec."""
    text = (ROOT / "crds" / f"{name}.yaml").read_text()
    if BEGIN not in text:
        return text
    head, _, rest = text.partition(BEGIN)
    indent = " " * (len(head) - head.rindex("\n") - 1)
    _, _, tail = rest.partition(f"{indent}{END}")
    made = textwrap.indent(OWN_WORKERS + spec_of_pools(), f"{indent}  ")
    return f"{head}{BEGIN}\n{indent}worker:\n{made}{indent}{END}{tail}"


def spec_of_pools() -> str:
    """The schema of a WorkerPool's spec, without its first two lines, its remarks and its indentation."""
    text = (ROOT / "crds" / "workerpool.yaml").read_text()
    _, _, rest = text.partition("            spec:\n")
    lines = [line for line in rest.partition("            status:\n")[0].splitlines(keepends=True) if "# Made " not in line]
    return textwrap.dedent("".join(lines[2:]))


# ── reasons ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def reasons() -> str:
    """Every reason that a condition may give, and what to do about it."""
    lines = ["# Reasons", "", MADE, "What the conditions of a resource's status say, and what to do.", ""]
    lines += ["| condition | status | reason | means | what to do |", "|---|---|---|---|---|"]
    lines += [f"| {each.type} | {each.status} | `{each.reason}` | {_cell(each.means)} | {_cell(each.do)} |" for each in REASONS]
    lines += ["", "Changes of Ready and Paused are told as Events, too, under the same reasons.", ""]
    return "\n".join(lines)


# ── metrics ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PROGRAMS = {"worker": "fibflow_worker.__main__", "operator": "fibflow_operator.__main__"}


def metrics() -> str:
    """Every metric that a worker, an operator, or both serve on /metrics."""
    tables = {program: served(program) for program in PROGRAMS}
    worker, operator = tables["worker"], tables["operator"]
    parts = {
        "Workers": [each for each in worker if each not in operator],
        "Operators": [each for each in operator if each not in worker],
        "Both, each of what it did itself": [each for each in worker if each in operator],
    }
    lines = ["# Metrics", "", MADE, *ABOUT_METRICS]
    for title, described in parts.items():
        lines += [f"## {title}", "", "| metric | type | labels | |", "|---|---|---|---|"]
        lines += [f"| `{each.name}` | {each.kind} | {_labels(each.labels)} | {_cell(each.help)} |" for each in described]
        lines.append("")
    return "\n".join(lines)


ABOUT_METRICS = (
    "Workers serve them on `/metrics` with `--port` (in a pod: always), operators on their port. Besides, there are Python's",
    "own (`python_…`, `process_…`). The 200 busiest values of a label have series of their own; the rest are one, `_other`.",
    "What the leading operator tells of the whole installation it has looked up before, so a scrape asks no database.",
    "",
)


def served(program: str) -> list[Described]:
    """The table of metrics of a program, from a process of its own: what it imports is what it serves."""
    code = f"import json, {PROGRAMS[program]}; from fibflow.metrics import TABLE; print(json.dumps(sorted(TABLE)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [Described(name, kind, tuple(labels), help) for name, kind, labels, help in json.loads(done.stdout)]


def _labels(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# ── the chart's values ────────────────────────────────────────────────────────────────────────────────────────────────


class Value(NamedTuple):
    """A value of the chart: its path, its default, and the comment above it."""

    path: str
    default: object
    comment: str


def values() -> str:
    """Every value of the chart."""
    lines = ["# Values of the chart", "", MADE, "| value | default | |", "|---|---|---|"]
    for each in chart_values():
        lines.append(f"| `{each.path}` | `{_cell(json.dumps(each.default))}` | {_cell(each.comment)} |")
    return "\n".join([*lines, ""])


def chart_values() -> list[Value]:
    """The values of values.yaml, in its order; one that has comments below is told by its parts."""
    text = (CHART / "values.yaml").read_text()
    found = list(_values(yaml.compose(text), (), text.splitlines()))
    defaults = yaml.safe_load(text)
    return [Value(".".join(path), _at(defaults, path), comment) for path, comment in found]


def _values(node: yaml.Node | None, path: tuple[str, ...], lines: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in node.value if node else ():
        here = (*path, key.value)
        comment = _comment(lines, key.start_mark.line)
        if comment or not isinstance(value, yaml.MappingNode):
            yield here, comment
        else:
            yield from _values(value, here, lines)


def _comment(lines: Sequence[str], number: int) -> str:
    """The comment that stands right above a line."""
    above = takewhile(lambda line: line.lstrip().startswith("#"), reversed(lines[:number]))
    return " ".join(reversed([line.strip().lstrip("# ") for line in above]))


def _at(found: Any, path: tuple[str, ...]) -> object:
    for part in path:
        found = found[part]
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the pages and the copies."""
    FOLDER.mkdir(exist_ok=True)
    for name in ORDER:
        (ROOT / "crds" / f"{name}.yaml").write_text(definition(name))
    written = {FOLDER / name: text for name, text in pages().items()}
    written |= {CHART / name: text for name, text in copies().items()}
    for path, text in written.items():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
