"""Take each guard out once, in a copy of the tree, and demand that the test which is named for it fails.

`python tools/guards.py [WORD …]` does so for the guards of tests/guards.yaml, or for those whose name or file holds one of
the words. An entry is `name`, `file`, `from` (text that stands in the file once), `to` (what it is without the guard) and
`test` (as pytest calls it). First all the tests run on the tree as it is, and must pass. What a guard is for is told where
it stands.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests" / "guards.yaml"
LINKED = (".venv", "build")
"""What a copy shares with the tree: programs, and no code of ours."""
PASSED, FAILED = 0, 1
HANGS = 120
"""Seconds after which a test that hangs counts as failed."""
LONGEST = 900
"""Seconds that the tests of one guard may take."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard, as the code has it and without it, and the test that is to see the difference."""

    name: str
    file: str
    code: str
    without: str
    test: str


def guards(file: Path = FILE) -> list[Guard]:
    """All that are listed."""
    listed: list[dict[str, Any]] = yaml.safe_load(file.read_text())
    return [Guard(each["name"], each["file"], each["from"], each["to"], each["test"]) for each in listed]


def main(words: Sequence[str]) -> int:
    """How many removals were not seen."""
    chosen = [guard for guard in guards() if not words or any(word in f"{guard.name} {guard.file}" for word in words)]
    if not chosen:
        print("no guard of that name")
        return 1
    with _copy() as tree:
        tests = list(dict.fromkeys(guard.test for guard in chosen))
        if _run(tree, tests) != PASSED:
            print("the tests do not pass as it is; nothing was taken out")
            return 1
        survived = [guard for guard in chosen if not _seen(tree, guard)]
    print(f"{len(chosen) - len(survived)} of {len(chosen)} removals were seen")
    return len(survived)


def _seen(tree: Path, guard: Guard) -> bool:
    """Whether its test fails without it."""
    begin = time.monotonic()
    with _without(tree, guard):
        code = _run(tree, [guard.test], quiet=True)
    told = {FAILED: "seen", PASSED: "NOT SEEN"}.get(code, f"NOT RUN (pytest: {code})")
    print(f"{told:9} {time.monotonic() - begin:6.1f} s  {guard.name:60} {guard.test}", flush=True)
    return code == FAILED


@contextmanager
def _without(tree: Path, guard: Guard) -> Iterator[None]:
    file = tree / guard.file
    whole = file.read_text()
    if whole.count(guard.code) != 1:
        raise SystemExit(f"{guard.name}: its text stands {whole.count(guard.code)} times in {guard.file}, not once")
    file.write_text(whole.replace(guard.code, guard.without))
    try:
        yield
    finally:
        file.write_text(whole)


def _run(tree: Path, tests: Sequence[str], quiet: bool = False) -> int:
    """pytest's exit code."""
    roots = os.pathsep.join(str(tree / root) for root in ("worker", "operator"))
    # Nothing compiled is kept: two texts of one length within a second are one file to Python.
    env = os.environ | {"PYTHONPATH": roots, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", str(HANGS), *tests]
    output = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, cwd=tree, env=env, stdout=output, stderr=output, timeout=LONGEST).returncode
    except subprocess.TimeoutExpired:
        return -1


@contextmanager
def _copy() -> Iterator[Path]:
    """The tree as it is, what git ignores left out."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    with tempfile.TemporaryDirectory(prefix="fibflow-guards-") as folder:
        tree = Path(folder)
        tree.chmod(0o755)
        for name in filter(None, files):
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        for name in LINKED:
            (tree / name).symlink_to(ROOT / name)
        yield tree


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
