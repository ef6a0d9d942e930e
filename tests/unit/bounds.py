"""For every bound of every field one object at the bound and one just beyond it, made from the definitions themselves.

A keyword of a schema is in BEYOND or in NO_BOUNDS; one that is in neither is an error, as is a pattern without
an example: a new bound cannot be added without its cases. What CEL says is tried in test_schemas.py.
"""

import runpy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fibflow import schemas
from unit.test_resources import resource

Schema = Mapping[str, Any]
Step = tuple[str, str]

COPIED: frozenset[str] = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "pod_settings.py"))["COPIED"]
"""The pod settings."""
NO_BOUNDS = {
    "description",
    "default",
    "properties",
    "items",
    "additionalProperties",
    "format",  # the API server does not check it: what has one has a maximum, too, or is checked with the pod
    "x-kubernetes-validations",
    "x-kubernetes-map-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
}
EXAMPLES: dict[str, Callable[[int], str]] = {
    r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$": lambda length: "a:" + "b" * (length - 2),
    r"^[A-Za-z_][A-Za-z0-9_]*$": lambda length: "A" * length,
}
BESIDES: dict[tuple[str, str], Callable[[Schema, Any], dict[str, Any]]] = {
    ("value", "valueFrom"): lambda schema, item: {} if "valueFrom" in item else {"value": "x"},
    ("secretKeyRef", "configMapKeyRef"): lambda schema, item: (
        {} if "configMapKeyRef" in item else {"secretKeyRef": {"name": "a", "key": "b"}}
    ),
    ("minReplicas", "maxReplicas"): lambda schema, item: {"maxReplicas": schema["properties"]["maxReplicas"]["maximum"]},
}
"""What CEL wants beside what there is of an object that has these fields."""


@dataclass(frozen=True, slots=True)
class Case:
    """An object that is accepted or refused for one bound of the field at `place`, as people and the API server write it."""

    kind: str
    place: str
    bound: str
    body: dict[str, Any]

    @property
    def field(self) -> str:
        """The field of the spec that it is about, or is part of it."""
        return self.place.partition(".")[2].partition(".")[0].partition("[")[0]

    @property
    def is_own(self) -> bool:
        """Whether the field is of our own: no pod setting, nor a pool's field in a TaskType."""
        return self.field not in COPIED and (self.kind, self.field) != ("TaskType", "worker")


def accepted() -> Iterator[Case]:
    """An object at every bound."""
    return _cases(AT)


def refused() -> Iterator[Case]:
    """An object beyond every bound."""
    return _cases(BEYOND)


def _cases(table: Mapping[str, Any]) -> Iterator[Case]:
    for kind in schemas.kinds():
        root = spec_of(kind)
        for steps, schema in _walk(root, ()):
            if unknown := schema.keys() - NO_BOUNDS - BEYOND.keys():
                raise AssertionError(f"{kind}.{_place(steps)}: no case for {unknown}")
            for bound in schema.keys() & table.keys():
                for suffix, value in table[bound](schema):
                    spec = {**resource(kind)["spec"], **_around(root, steps, value)} if steps else value
                    yield Case(kind, _place(steps) + suffix, bound, {**resource(kind), "spec": spec})


def spec_of(kind: str) -> Schema:
    """The schema of a kind's spec."""
    for file in sorted(schemas.folder().glob("*.yaml")):
        definition = yaml.safe_load(file.read_text())["spec"]
        if definition["names"]["kind"] == kind:
            spec: Schema = definition["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            return spec
    raise LookupError(kind)


def _walk(schema: Schema, steps: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Schema]]:
    yield steps, schema
    for name, part in schema.get("properties", {}).items():
        yield from _walk(part, (*steps, ("properties", name)))
    for through in ("items", "additionalProperties"):
        if isinstance(schema.get(through), Mapping):
            yield from _walk(schema[through], (*steps, (through, "")))


def _place(steps: tuple[Step, ...]) -> str:
    words = {"properties": ".{}", "items": "[0]", "additionalProperties": ".k0"}
    return "spec" + "".join(words[through].format(name) for through, name in steps)


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _around(schema: Schema, steps: tuple[Step, ...], value: Any) -> Any:
    """A value of the schema that has this value at these steps, and elsewhere what it must have."""
    if not steps:
        return value
    (through, name), rest = steps[0], steps[1:]
    if through == "items":
        return [_around(schema["items"], rest, value)]
    if through == "additionalProperties":
        return {"k0": _around(schema["additionalProperties"], rest, value)}
    inner = {name: _around(schema["properties"][name], rest, value)}
    return {**_besides(schema, inner), **_required(schema), **inner}


def _besides(schema: Schema, item: Mapping[str, Any]) -> dict[str, Any]:
    wanted = (more(schema, item) for names, more in BESIDES.items() if set(names) <= schema.get("properties", {}).keys())
    return next(wanted, {})


def _required(schema: Schema) -> dict[str, Any]:
    return {name: _least(schema["properties"][name]) for name in schema.get("required", ())}


def _least(schema: Schema) -> Any:
    """The least value that a schema takes."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "integer"):
        case "string":
            return _text(schema, max(schema.get("minLength", 0), 1))
        case "integer":
            return schema.get("minimum", 0)
        case "array":
            return []
        case "object":
            return {**_besides(schema, {}), **_required(schema)}
    return True


def _text(schema: Schema, length: int) -> str:
    return EXAMPLES[schema["pattern"]](length) if "pattern" in schema else "x" * length


def _items(schema: Schema, number: int) -> list[Any]:
    """So many items, no two of which are one by the list's key."""
    items = [_least(schema["items"]) for _ in range(number)]
    for key in schema.get("x-kubernetes-list-map-keys", ())[:1]:
        for place, item in enumerate(items):
            item[key] = f"k{place}"
    return items


def _entries(schema: Schema, number: int) -> dict[str, Any]:
    return {f"k{place}": _least(schema["additionalProperties"]) for place in range(number)}


# ── the tables ────────────────────────────────────────────────────────────────────────────────────────────────────

OF_ANOTHER_TYPE: dict[str, tuple[Any, ...]] = {
    "string": (5, ["x"]),
    "integer": ("1", 1.5, True, 2**63, 10**30),
    "boolean": ("yes", 1),
    "array": ({}, "x"),
    "object": ([], "x"),
}
Values = Iterator[tuple[str, Any]]


def _one(make: Callable[[Schema], Any]) -> Callable[[Schema], Values]:
    return lambda schema: iter([("", make(schema))])


def _each(make: Callable[[Schema], list[Any]]) -> Callable[[Schema], Values]:
    return lambda schema: (("", value) for value in make(schema))


def _without_each(schema: Schema) -> Values:
    whole = {**_besides(schema, {}), **_required(schema)}
    for name in schema["required"]:
        yield f".{name}", {other: value for other, value in whole.items() if other != name}


def _twice(schema: Schema) -> Values:
    if schema["x-kubernetes-list-type"] != "atomic":
        yield "[1]", _items(schema, 1) * 2


BEYOND: dict[str, Callable[[Schema], Values]] = {
    "type": _each(lambda schema: list(OF_ANOTHER_TYPE[schema["type"]])),
    "anyOf": _each(lambda schema: [[], True]),
    "minimum": _one(lambda schema: schema["minimum"] - 1),
    "maximum": _one(lambda schema: schema["maximum"] + 1),
    "minLength": _one(lambda schema: _text(schema, schema["minLength"] - 1)),
    "maxLength": _one(lambda schema: _text(schema, schema["maxLength"] + 1)),
    "pattern": _one(lambda schema: _text(schema, max(schema.get("minLength", 0), 3))[:-1] + "-"),
    "enum": _one(lambda schema: f"{schema['enum'][0]}s"),
    "maxItems": _one(lambda schema: _items(schema, schema["maxItems"] + 1)),
    "maxProperties": _one(lambda schema: _entries(schema, schema["maxProperties"] + 1)),
    "required": _without_each,
    "x-kubernetes-list-type": _twice,
}
AT: dict[str, Callable[[Schema], Values]] = {
    "minimum": _one(lambda schema: schema["minimum"]),
    "maximum": _one(lambda schema: schema["maximum"]),
    "minLength": _one(lambda schema: _text(schema, schema["minLength"])),
    "maxLength": _each(lambda schema: [] if "enum" in schema else [_text(schema, schema["maxLength"])]),
    "enum": _each(lambda schema: list(schema["enum"])),
    "anyOf": _each(lambda schema: [1, "1"]),
    "maxItems": _one(lambda schema: _items(schema, schema["maxItems"])),
    "maxProperties": _one(lambda schema: _entries(schema, schema["maxProperties"])),
}
