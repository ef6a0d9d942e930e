"""Images without a registry: built from folders with a Dockerfile, kept as archives that a node can import.

There is one base that a Dockerfile can name without asking any registry: `ARG BASE` is Debian of this machine's own
release with its Python, as `python` and with pip. What was built once from the same files is not built again.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cache, programs
from .node import PAUSE_IMAGE

PACKAGES = ("python3", "python3-pip", "ca-certificates", "netbase", "tzdata")
BASE = "localhost/python-base"
BASE_FILE = """
FROM scratch
ADD root.tar /
RUN ln -sf python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
ENV LANG=C.UTF-8
CMD ["python3"]
"""
PAUSE_FILE = 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n'
SETTINGS = {
    "storage.conf": '[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/storage"\n',
    "registries.conf": 'unqualified-search-registries = []\nshort-name-mode = "disabled"\n',
    "pip.conf": "[global]\ncert = {trust}\ndisable-pip-version-check = true\n",
    "containers.conf": '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n',
}
BUILD = ("--quiet", "--isolation=chroot", "--network=host", "--layers=true")
TRUST = Path("/etc/ssl/certs/ca-certificates.crt")
# Of a Debian system, what no program in a container reads.
SLIM = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")


def pause() -> Path:
    """The archive of the image that every pod begins with."""
    binary = programs.program("pause")

    def make(path: Path) -> None:
        folder = _scratch("pause")
        (folder / "Dockerfile").write_text(PAUSE_FILE)
        (folder / "pause").write_bytes(binary.read_bytes())
        (folder / "pause").chmod(0o755)
        _build(folder, PAUSE_IMAGE, path)

    return cache.entry("pause-image", (binary.name, PAUSE_FILE), make)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was built: its reference, and the archive that a node imports."""

    reference: str
    archive: Path


def of(
    folder: Path, name: str, target: str = "", parents: Mapping[str, Image] | None = None, parts: Sequence[str] = ()
) -> Image:
    """The image that a folder's Dockerfile makes of it, or one target of it.

    `parents` are images by the names that the Dockerfile knows them by; `parts` are the files and folders that it is made
    of, if that is not the whole folder.
    """
    parents = parents or {}
    files = [folder / part for part in parts] or [folder]
    inherited = sorted((known, image.reference) for known, image in parents.items())
    sources = (*files, BASE_FILE, PACKAGES, _release(), target, inherited)
    reference = f"localhost/{name}:{cache.digest(sources)}"

    def make(path: Path) -> None:
        options = ["--build-arg", f"BASE={base()}", *(("--target", target) if target else ())]
        for known, image in parents.items():
            _keep(image)
            options += ["--build-context", f"{known}=container-image://{image.reference}"]
        _build(folder, reference, path, *options)

    return Image(reference, cache.entry(f"{name}-image", sources, make))


def _keep(image: Image) -> None:
    """Have it in buildah's storage: another build of it may be newer, or the storage was emptied."""
    _buildah("pull", "--quiet", f"oci-archive:{image.archive}:{image.reference}")


def base() -> str:
    """The reference of the base image, which is in buildah's storage from now on."""
    root = cache.entry("base-system", (PACKAGES, SLIM, _release()), _debian)
    reference = f"{BASE}:{root.name.rpartition('-')[2]}"
    with cache.locked("base-image"):
        folder = _scratch("base")
        (folder / "Dockerfile").write_text(BASE_FILE)
        (folder / "root.tar").unlink(missing_ok=True)
        os.link(root, folder / "root.tar")
        _buildah("bud", *BUILD, "--tag", reference, str(folder))
    return reference


def layers(reference: str) -> list[str]:
    """The layers of an image in buildah's storage, by the digests of what they hold."""
    said = json.loads(_buildah("inspect", "--type", "image", reference))
    return [str(digest) for digest in said["OCIv1"]["rootfs"]["diff_ids"]]


def _build(context: Path, reference: str, archive: Path, *options: str) -> None:
    # Whom this machine trusts, a build trusts, too; the image is none the wiser.
    trust = (f"--volume={TRUST}:{TRUST}:ro", f"--volume={cache.folder()}/buildah/pip.conf:/etc/pip.conf:ro")
    _buildah("bud", *BUILD, *trust, *options, "--tag", reference, str(context))
    _buildah("push", "--quiet", reference, f"oci-archive:{archive}:{reference}")


def _buildah(*arguments: str) -> str:
    folder = cache.folder() / "buildah"
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in SETTINGS.items():
        (folder / file).write_text(text.format(folder=folder, trust=TRUST))
    variables = {"STORAGE": "storage", "REGISTRIES": "registries"}
    settings = {f"CONTAINERS_{name}_CONF": str(folder / f"{file}.conf") for name, file in variables.items()}
    environment = os.environ | settings | {"CONTAINERS_CONF": str(folder / "containers.conf")}
    # It leaves its storage mounted: in mounts of its own, so that they go with it.
    command = ["unshare", "--mount", "--propagation", "private", "nice", "-n", "15", "buildah", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"buildah {arguments[0]}: {done.stderr[-4000:]}")
    return done.stdout


def _debian(path: Path) -> None:
    slim = [f"--dpkgopt=path-exclude={pattern}" for pattern in SLIM]
    packages = f"--include={','.join(PACKAGES)}"
    command = ["nice", "-n", "15", "mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", packages, *slim]
    # Its packages come from where this machine's own come from.
    done = subprocess.run([*command, _release(), str(path), str(_sources())], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap: {done.stderr[-4000:]}")


def _sources() -> Path:
    places = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    return next(place for place in places if place.exists())


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line).get("VERSION_CODENAME", "stable").strip('"')


def _scratch(name: str) -> Path:
    folder = cache.folder() / f"{name}-context"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
