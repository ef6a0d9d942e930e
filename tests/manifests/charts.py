"""The chart as Helm renders it: from values to the list of resources, or to what Helm says against the values."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import programs

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fibflow"
KUBERNETES = "1.34.0"
POLICIES = "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy"

Resource = dict[str, Any]


class Refused(Exception):
    """Helm refused to render; its message says why."""


HELMS = (3, 4)


@cache
def helm(major: int) -> Path:
    """Helm of a major version; the third, if it is built."""
    if major == 4:
        return programs.apart("helm4")
    try:
        return programs.program("helm")
    except FileNotFoundError as error:
        pytest.skip(f"no Helm: {error}")


def run(*arguments: str, major: int = 3) -> str:
    """What a Helm command prints. Raises Refused."""
    done = subprocess.run([helm(major), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


def render(
    values: Resource,
    *options: str,
    kubernetes: str = KUBERNETES,
    major: int = 3,
    release: str = "my",
    namespace: str = "there",
) -> list[Resource]:
    """The resources of a release."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = ["template", release, str(CHART), "--namespace", namespace, "--kube-version", kubernetes]
        command += ["--values", file.name]
        if kubernetes >= "1.30":
            command += ["--api-versions", POLICIES]
        rendered = run(*command, *options, major=major)
        return [each for each in yaml.load_all(rendered, yaml.CSafeLoader) if each]


def one(resources: list[Resource], kind: str, name: str | None = None) -> Resource:
    """The only resource of a kind, or of a kind and name."""
    found = [each for each in resources if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    return found[0]


def kinds(resources: list[Resource]) -> set[str]:
    """The kinds that occur."""
    return {each["kind"] for each in resources}


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Every pod that the resources make, and whose it is."""
    for each in resources:
        if each["kind"] == "Pod":
            yield f"Pod {each['metadata']['name']}", each["spec"]
        elif each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield f"{each['kind']} {each['metadata']['name']}", each["spec"]["template"]["spec"]
