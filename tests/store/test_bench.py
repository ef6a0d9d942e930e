"""The benchmark keeps running: a few hundred tasks through it, with the peer where it is installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run of the rows that need no long backlog: what it wrote, and what it said meanwhile."""
    output = tmp_path_factory.mktemp("bench") / "bench.json"
    command = [sys.executable, "-m", "bench", "--tiny", "--only", "P1,P2", "--output", str(output)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=110)
    assert output.exists(), done.stderr
    return json.loads(output.read_text()), " ".join(done.stderr.split())


def test_the_benchmark_measures_us_in_every_row(run):
    rows, _ = run
    assert [row["id"] for row in rows] == ["P1", "P1.bare", "P2.bulk", "P2.single"]
    assert all(row["ours"] > 0 for row in rows)


def test_the_peer_is_measured_where_it_is_installed_and_else_skipped_aloud(run):
    rows, said = run
    installed = importlib.util.find_spec("pgqueuer") is not None
    assert [row["peer"] is not None for row in rows] == [installed] * len(rows)
    assert ("skipped pgqueuer: " in said) is not installed
