"""Whether a cluster can be had here, and if not, why, in one line."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

from . import postgres, programs


def lacking() -> str | None:
    """The first thing that stands in the way of a cluster of our own, or None."""
    return next(_obstacles(), None)


def _obstacles() -> Iterator[str]:
    if sys.platform != "linux":
        yield "this is not Linux"
        return
    if os.geteuid() != 0:
        yield "only root may make namespaces and mounts"
        return
    if subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True).returncode != 0:
        yield "root may not make namespaces here"
    if (missing := programs.missing()) and not shutil.which("apt-get"):
        yield f"{', '.join(missing)} are not installed, and there is no apt-get to install them by"
    if not programs.built() and (complaint := _go()):
        yield complaint
    if not postgres.find():
        yield "no PostgreSQL server programs are installed"


def _go() -> str | None:
    oldest = _version(re.search(r"^go (\S+)", (programs.SOURCES / "go.mod").read_text(), re.M)[1])  # type: ignore[index]
    if not shutil.which("go"):
        return "Go is not installed, and Kubernetes is not built yet"
    found = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True).stdout.strip()
    if _version(found.removeprefix("go")) < oldest:
        return f"{found} is too old to build Kubernetes: it takes {'.'.join(map(str, oldest))}"
    return None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])
