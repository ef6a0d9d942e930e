"""The benchmark keeps running: a few hundred tasks through it, with the peer where it is installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

METRICS = ["M1", "M2.worker", "M2.operator", "M2.series"]
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run of the rows that need no long backlog: what it wrote, and what it said meanwhile."""
    output = tmp_path_factory.mktemp("bench") / "bench.json"
    command = [sys.executable, "-m", "bench", "--tiny", "--only", "P1,P2,M", "--output", str(output)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=110)
    assert output.exists(), done.stderr
    return json.loads(output.read_text()), " ".join(done.stderr.split())


def test_the_benchmark_measures_us_in_every_row(run):
    rows, _ = run
    assert sorted(row["id"] for row in rows) == sorted(["P1", "P1.bare", "P2.bulk", "P2.single", *METRICS])
    assert all(row["ours"] > 0 for row in rows)


def test_a_scrape_of_more_types_than_have_series_of_their_own_is_short_and_quick(run):
    rows, _ = run
    scrapes = {row["id"]: row for row in rows if row["id"].startswith("M2")}
    assert len(scrapes) == 3 and all(row["met"] for row in scrapes.values()), scrapes
    assert scrapes["M2.series"]["ours"] > 2_000, "the busiest types are told one by one"


def test_the_peer_is_measured_where_it_is_installed_and_else_skipped_aloud(run):
    rows, said = run
    installed = importlib.util.find_spec("pgqueuer") is not None
    assert [row["peer"] is not None for row in rows if row["id"] not in METRICS] == [installed] * 4
    assert ("skipped pgqueuer: " in said) is not installed
