"""`make clean-clone`: both commands of the README, in a clone that has nothing but what is committed."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/clean_clone.sh"
MAKE = """#!/usr/bin/env bash
echo "$1 $PWD $FIBFLOW_CACHE $(ls) ${MAKEFLAGS-none}" >> "$SEEN"
mkdir -p "$FIBFLOW_CACHE"
test "$1" != "${FAILS-}"
"""


@pytest.fixture
def source(tmp_path):
    """A repository with one file that is committed, and one that is not."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "committed").touch()
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (["init", "-q"], ["add", "committed"], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "uncommitted").touch()
    return folder


@pytest.fixture
def clean_clone(source, tmp_path):
    """Runs the script with a `make` that only writes down how it was called: its exit code, and the calls."""
    make, seen = tmp_path / "bin/make", tmp_path / "seen"
    make.parent.mkdir()
    make.write_text(MAKE)
    make.chmod(0o755)

    def run(**environment):
        path = f"{make.parent}:{os.environ['PATH']}"
        env = os.environ | {"PATH": path, "SEEN": str(seen), "TMPDIR": str(tmp_path), "MAKEFLAGS": "n"} | environment
        done = subprocess.run(["bash", str(SCRIPT)], cwd=source, env=env, capture_output=True, timeout=60)
        return done.returncode, [line.split() for line in seen.read_text().splitlines()]

    return run


def test_both_commands_run_in_a_clone_with_an_empty_cache_that_is_removed(clean_clone, source):
    code, ((demo, folder, cache, *rest), second) = clean_clone()
    assert (code, demo, rest) == (0, "demo", ["committed", "none"])
    assert second == ["test", folder, cache, *rest]
    assert Path(folder) != source
    assert [Path(folder).exists(), Path(cache).exists()] == [False, False]


def test_a_command_that_fails_ends_it_and_leaves_nothing(clean_clone):
    code, ((demo, folder, *_),) = clean_clone(FAILS="demo")
    assert (code, demo) == (1, "demo")
    assert not Path(folder).exists()
