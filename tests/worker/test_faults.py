"""The faults of `make faults`, shortened: the same code with fewer tasks and fewer kills."""

import pytest

from faults import cuts, kills, late, stops
from faults.course import Course

SEED = 20260
SHORTENED = {
    "workers are killed, PostgreSQL": kills.on_postgresql,
    "workers are killed, SQLite": kills.on_sqlite,
    "workers are stopped while handlers run, PostgreSQL": stops.on_postgresql,
    "workers are stopped while handlers run, SQLite": stops.on_sqlite,
    "workers are stopped inside a settle": cuts.measure,
    "writes come late": late.measure,
}


@pytest.mark.parametrize("fault", SHORTENED)
def test_nothing_is_lost_doubled_or_overwritten_when(fault, postgres_server):
    row = SHORTENED[fault](Course(postgres_server, SEED, quick=True, say=print))
    assert list(row.broken) == [], row.json()
    assert not row.lost
    assert not row.twice
    assert row.stale_tried == row.stale_refused
