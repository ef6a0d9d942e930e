"""The page of docs/reference/ that follows from the definitions in crds/: every field, its bounds, and what is refused besides.

For reference.py, which writes it. What a field means is written in its definition, not here.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

COPIED = runpy.run_path(str(Path(__file__).with_name("pod_settings.py")))["COPIED"]
BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "pattern": "matches `{}`",
    "default": "default `{}`",
}


def resources(made: str, definitions: Sequence[Mapping[str, Any]]) -> str:
    """Every field of the resources."""
    head = ["# Resources", "", made, "`fibflow.dev/v1alpha1`, all namespaced. `kubectl get fibflow` lists all three.", ""]
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


OWN = "spec.worker"


def _field(path: str, field: Mapping[str, Any], required: bool) -> Iterator[str]:
    type_ = field.get("type", "number or string")
    kind = f"list of {field['items']['type']}s" if type_ == "array" else type_
    bounds = [*(["required"] if required else []), *_bounds(field)]
    yield f"| `{path}` | {kind} | {_cell(field['description'])} | {_cell('; '.join(bounds))} |"
    if path == OWN or path.rpartition(".")[2] in COPIED:  # explained where a WorkerPool's, and where a pod's fields are
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
        yield from _rules(f"{path}.{name}", part) if f"{path}.{name}" != OWN else ()
    if "items" in schema:
        yield from _rules(f"{path}[]", schema["items"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
