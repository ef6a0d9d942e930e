"""The images: small, without root, without tools for building, and saying themselves what they are made of."""

import json
import tarfile
from dataclasses import dataclass
from typing import Any

import pytest

from cluster import images
from e2e import fleets, releases

MEGABYTE = 1_000_000
SBOM = "opt/fibflow/sbom.cdx.json"
BUILD_TOOLS = {"pip", "hatchling", "hatch", "cyclonedx-py", "wheel", "gcc"}


@dataclass(frozen=True)
class Built:
    """What an image's archive holds: its settings, and the files of its layers above the base, with their sizes."""

    settings: dict[str, Any]
    files: dict[str, int]
    sbom: dict[str, Any]

    @property
    def size(self):
        return sum(self.files.values())


def _built(image):
    with tarfile.open(image.archive) as archive:

        def blob(digest):
            return _file(archive, f"blobs/{digest.replace(':', '/')}")

        (named,) = json.load(_file(archive, "index.json"))["manifests"]
        manifest = json.load(blob(named["digest"]))
        files: dict[str, int] = {}
        sbom: dict[str, Any] = {}
        for layer in manifest["layers"][len(images.layers(images.base())) :]:
            with tarfile.open(fileobj=blob(layer["digest"])) as content:
                files |= {member.name: member.size for member in content}
                if SBOM in content.getnames():
                    sbom = json.load(_file(content, SBOM))
        return Built(json.load(blob(manifest["config"]["digest"]))["config"], files, sbom)


def _file(archive, name):
    found = archive.extractfile(name)
    assert found is not None
    return found


@pytest.fixture(scope="module", params=["operator", "worker"])
def image(request, own_cluster):
    return request.param, _built({"operator": releases.operator, "worker": fleets.base}[request.param]())


def test_an_image_adds_little_to_its_base(image):
    name, built = image
    assert built.size <= {"operator": 200, "worker": 80}[name] * MEGABYTE, f"{built.size / MEGABYTE:.0f} MB"


def test_an_image_runs_as_nobody_and_holds_nothing_to_build_with(image):
    _, built = image
    user, _, group = built.settings["User"].partition(":")
    assert int(user) > 10_000 and int(group) > 10_000
    assert built.settings["Entrypoint"][0] == "python"
    assert built.settings["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {path.rpartition("/")[2] for path in built.files if "/bin/" in path} & BUILD_TOOLS == set()


def test_an_image_says_which_packages_it_is_made_of(image):
    _, built = image
    assert built.sbom["bomFormat"] == "CycloneDX"
    listed = {part["name"].lower().replace("_", "-"): part["version"] for part in built.sbom["components"]}
    folders = [path.split("/")[-2] for path in built.files if path.endswith(".dist-info/METADATA")]
    there = dict(folder.removesuffix(".dist-info").rsplit("-", 1) for folder in folders)
    assert listed == {name.lower().replace("_", "-"): version for name, version in there.items()}
    assert "fibflow" in listed
