"""The resources' own schemas: the CustomResourceDefinitions that a cluster takes, used to check files.

What a cluster would prune without a word is refused here: a key that the schema does not know is an error which names
its path and the keys it may have meant. What a resource means is in `resources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: half a second less at the start."""
API_VERSION = "fibflow.dev/v1alpha1"
NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
TEXTS = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 262144}}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a resource: the place, the value there, and the way out."""

    place: tuple[str | int, ...]
    value: object
    way_out: str

    @property
    def path(self) -> str:
        """The place as people write it, such as spec.env[0].name."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.place)
        return "".join(steps).lstrip(".") or "the resource"


def kinds() -> list[str]:
    """The kinds that have a schema, by name."""
    return sorted(_validators())


def faults(kind: str, resource: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with a resource of a kind by its schema, by place."""
    found = (fault for error in _validators()[kind].iter_errors(resource) for fault in _faults(error))
    return sorted(found, key=lambda fault: (fault.path, fault.way_out))


@cache
def _validators() -> dict[str, Draft202012Validator]:
    return {kind: Draft202012Validator(_closed_resource(schema)) for kind, schema in _schemas().items()}


def _schemas() -> dict[str, dict[str, Any]]:
    """openAPIV3Schema by kind."""
    found = {}
    for file in sorted(folder().glob("*.yaml")):
        definition = yaml.load(file.read_text(), LOADER)["spec"]
        found[definition["names"]["kind"]] = definition["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def folder() -> Path:
    """Where the definitions lie: in the package when it is installed, two folders up in the source tree."""
    here = Path(__file__).resolve().parent
    return here / "crds" if (here / "crds").is_dir() else here.parents[1] / "crds"


def _closed_resource(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a file: metadata as the API server reads it, and no status, which people do not write."""
    parts = {name: part for name, part in schema["properties"].items() if name != "status"}
    name = {"pattern": NAME, **parts["metadata"]["properties"]["name"]}
    plain = {"name": name, "namespace": {"type": "string"}, "labels": TEXTS, "annotations": TEXTS}
    parts["metadata"] = {"type": "object", "required": ["name"], "properties": plain}
    closed = _closed({**schema, "properties": parts})
    closed["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return closed


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema, in which an object has the keys that are written there and no other."""
    closed = {name: value for name, value in schema.items() if name != "format"}
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    if "properties" in schema:
        closed["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
        closed["additionalProperties"] = False
    return closed


def _faults(error: ValidationError) -> list[Fault]:
    place = tuple(error.absolute_path)
    schema: Any = error.schema
    rule: Any = error.validator_value
    found: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        return [Fault((*place, key), key, _meant(key, known)) for key in found if key not in known]
    if error.validator == "required":
        missing = next(name for name in rule if name not in found and error.message.startswith(repr(name)))
        return [Fault((*place, missing), None, f"is missing; give it a value{_described(schema['properties'][missing])}")]
    explained = _described(schema) if error.validator in ("type", "pattern") else ""
    return [Fault(place, found, _way_out(str(error.validator), rule) + explained)]


def _described(schema: Mapping[str, Any]) -> str:
    """What a field is, for those who gave it something else."""
    return f" ({schema['description'].rstrip('.')})" if "description" in schema else ""


def _meant(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, n=3, cutoff=0.6)
    if close:
        return f"is not a known key; did you mean {' or '.join(close)}?"
    return f"is not a known key; known are {', '.join(sorted(known))}"


WAYS_OUT = {
    "type": "is not of type {}",
    "minimum": "is less than {}",
    "maximum": "is more than {}",
    "minLength": "is shorter than {} characters",
    "maxLength": "is longer than {} characters",
    "maxItems": "has more than {} items",
    "pattern": "does not match {}",
}


def _way_out(rule: str, bound: Any) -> str:
    if rule == "enum":
        return f"is not one of {', '.join(map(str, bound))}"
    return WAYS_OUT.get(rule, f"breaks the rule {rule} {{}}").format(bound)
