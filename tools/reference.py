"""Write docs/reference/: the resources' fields, from their definitions, and the reasons of conditions, from their table.

`python tools/reference.py` writes the pages; a test says when they are out of date. What a field or a reason means is
not written here.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fibflow_operator.conditions import REASONS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
COPIED = runpy.run_path(str(Path(__file__).with_name("pod_settings.py")))["COPIED"]
ORDER = ("tasktype", "crontask", "workerpool")
BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "pattern": "matches `{}`",
    "default": "default `{}`",
}
MADE = "<!-- Made by tools/reference.py; a change here is lost. -->\n"


def pages() -> dict[str, str]:
    """The pages' texts by the names of their files."""
    return {"resources.md": resources(), "reasons.md": reasons()}


def resources() -> str:
    """Every field of the three resources."""
    definitions = [yaml.safe_load((ROOT / "crds" / f"{name}.yaml").read_text())["spec"] for name in ORDER]
    head = ["# Resources", "", MADE, "`fibflow.dev/v1alpha1`, all namespaced. `kubectl get fibflow` lists all three.", ""]
    return "\n".join(head + [line for definition in definitions for line in _kind(definition)])


def _kind(definition: Mapping[str, Any]) -> Iterator[str]:
    names = definition["names"]
    schema = definition["versions"][0]["schema"]["openAPIV3Schema"]
    yield from (f"## {names['kind']}", "", schema["description"], "")
    yield from (f"Short name: `{', '.join(names['shortNames'])}`.", "")
    for part in ("spec", "status"):
        yield from ("| field | type | | bounds |", "|---|---|---|---|")
        required = schema["properties"][part].get("required", ())
        for name, field in schema["properties"][part].get("properties", {}).items():
            yield from _field(f"{part}.{name}", field, name in required)
        yield ""
    rules = list(_rules("spec", schema["properties"]["spec"]))
    if rules:
        yield from ("Refused besides:", "", *(f"- {rule}" for rule in rules), "")


def _field(path: str, field: Mapping[str, Any], required: bool) -> Iterator[str]:
    type_ = field.get("type", "number or string")
    kind = f"list of {field['items']['type']}s" if type_ == "array" else type_
    bounds = [*(["required"] if required else []), *_bounds(field)]
    yield f"| `{path}` | {kind} | {_cell(field['description'])} | {_cell('; '.join(bounds))} |"
    if path.rpartition(".")[2] in COPIED:  # their fields are the API's own, and explained where a pod's are
        return
    inner = field.get("items", field)
    mark = "[]" if type_ == "array" else ""
    for name, part in inner.get("properties", {}).items():
        yield from _field(f"{path}{mark}.{name}", part, name in inner.get("required", ()))


def _bounds(field: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in field:
        yield f"one of {', '.join(field['enum'])}"
    for name, said in BOUNDS.items():
        if name in field:
            value = field[name]
            yield said.format(str(value).lower() if isinstance(value, bool) else value)


def _rules(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"`{path}`: {rule['message']}"
    for name, part in schema.get("properties", {}).items():
        yield from _rules(f"{path}.{name}", part)
    if "items" in schema:
        yield from _rules(f"{path}[]", schema["items"])


def reasons() -> str:
    """Every reason that a condition may give, and what to do about it."""
    lines = ["# Reasons", "", MADE, "What the conditions of a resource's status say, and what to do.", ""]
    lines += ["| condition | status | reason | means | what to do |", "|---|---|---|---|---|"]
    lines += [f"| {each.type} | {each.status} | `{each.reason}` | {_cell(each.means)} | {_cell(each.do)} |" for each in REASONS]
    lines += ["", "Changes of Ready and Paused are told as Events, too, under the same reasons.", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        print(f"wrote {(FOLDER / name).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
