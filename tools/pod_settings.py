"""Copy the pod settings that a WorkerPool has from the API's own OpenAPI into crds/, bounded, with their descriptions.

    kubectl get --raw /openapi/v3/apis/apps/v1 | python tools/pod_settings.py

Which settings there are is the table below; what is above and below the marks in the files is written by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fibflow_operator.deployment import AS_THEY_ARE

ROOT = Path(__file__).parents[1]
CORE = "io.k8s.api.core.v1."
CONTAINER = ("resources", "envFrom", "volumeMounts", "imagePullPolicy")
COPIED = frozenset({*AS_THEY_ARE, *CONTAINER, "volumes", "podSecurityContext"})
VOLUMES = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
"""The kinds that restricted pod security allows."""
SECURITY = ("fsGroup", "fsGroupChangePolicy", "runAsUser", "runAsGroup", "supplementalGroups")
KEPT = ("type", "format", "enum", "required", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type")
BEGIN, END = "# Made by tools/pod_settings.py:", "# Made until here."
BOUNDS = {"string": {"maxLength": 4096}, "array": {"maxItems": 64}, "integer": {"minimum": 0}}
ENUMS = {"imagePullPolicy": ["Always", "IfNotPresent", "Never"]}


def settings(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The copied fields by name, as a structural schema has them."""
    found = {name: field(schemas, schemas[f"{CORE}PodSpec"]["properties"][name]) for name in AS_THEY_ARE}
    found |= {name: field(schemas, schemas[f"{CORE}Container"]["properties"][name]) for name in CONTAINER}
    found["volumes"] = field(schemas, schemas[f"{CORE}PodSpec"]["properties"]["volumes"])
    found["volumes"]["items"]["properties"] = _only(found["volumes"]["items"]["properties"], ("name", *VOLUMES))
    claim = found["volumes"]["items"]["properties"]["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]
    claim["metadata"]["properties"] = _only(claim["metadata"]["properties"], ("labels", "annotations"))
    security = field(schemas, schemas[f"{CORE}PodSpec"]["properties"]["securityContext"])
    found["podSecurityContext"] = {**security, "properties": _only(security["properties"], SECURITY)}
    for name, values in ENUMS.items():
        found[name]["enum"] = values
    return dict(sorted(found.items()))


def field(schemas: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """One field: references resolved, defaults left out, everything bounded."""
    parts = [schemas[each["$ref"].rpartition("/")[2]] for each in (*raw.get("allOf", ()), raw) if "$ref" in each]
    whole = {**(parts[0] if parts else {}), **{name: value for name, value in raw.items() if name != "allOf"}}
    said = {"description": sentence(whole.get("description", ""))}
    if "oneOf" in whole:
        return {**said, "x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    found = {**said, **{name: whole[name] for name in KEPT if name in whole}, **BOUNDS.get(whole["type"], {})}
    if "items" in whole:
        found["items"] = field(schemas, whole["items"])
        keys = whole.get("x-kubernetes-list-map-keys", ())
        if missing := set(keys) - set(found["items"].get("required", ())):
            found["items"]["required"] = [*found["items"].get("required", ()), *sorted(missing)]
    if "properties" in whole:
        found["properties"] = {name: field(schemas, part) for name, part in whole["properties"].items()}
    if "additionalProperties" in whole:
        found |= {"maxProperties": 64, "additionalProperties": field(schemas, whole["additionalProperties"])}
    return found


def sentence(text: str) -> str:
    """The first sentence, without line breaks; a field that is not described is one of the API's own."""
    first = " ".join(text.split()).partition(". ")[0].rstrip(".")
    return f"{first[:200]}." if len(first) > 8 else "As in a pod."


def _only(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: fields[name] for name in names}


class Plain(yaml.SafeDumper):
    """Without anchors: a schema that is used twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def written(text: str, fields: Mapping[str, Any]) -> str:
    """A definition's text with the fields between its marks, indented as the first mark is."""
    lines = text.splitlines(keepends=True)
    begin = next(number for number, line in enumerate(lines) if line.strip().startswith(BEGIN))
    end = next(number for number, line in enumerate(lines) if line.strip() == END)
    indent = " " * (len(lines[begin]) - len(lines[begin].lstrip()))
    made = yaml.dump(fields, Dumper=Plain, sort_keys=False, allow_unicode=True, width=1000)
    return "".join([*lines[: begin + 1], *(f"{indent}{line}" for line in made.splitlines(keepends=True)), *lines[end:]])


def main() -> int:
    """Write them into every definition that has the marks."""
    fields = settings(json.load(sys.stdin)["components"]["schemas"])
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        if BEGIN in file.read_text():
            file.write_text(written(file.read_text(), fields))
            print(f"wrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
