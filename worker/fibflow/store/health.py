"""The database's own health, as PostgreSQL tells it: what slows claims down long before anything fails.

An old transaction keeps dead rows from being cleared; dead rows make every claim walk further; a claim without its index
reads the whole table. It needs no rights beyond those that the tables take.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.model import DEFAULT_TIMEOUT, SECOND
from fibflow.store.batch import integers
from fibflow.store.claim import LOWEST, claim_statement
from fibflow.store.database import Session, read


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the statistics know it, and its size with all indexes."""

    live: int
    dead: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """Seconds that the oldest transaction is old; the tables; connections; whether a claim comes in by an index."""

    oldest_transaction: float
    tables: Mapping[str, Table]
    connections: int
    most_connections: int
    claim_by_index: bool


@read
def database_health(session: Session) -> DatabaseHealth:
    """Look at a PostgreSQL."""
    rows = session.connection.execute(TABLES)
    oldest, connections, most = session.connection.execute(SESSIONS).one()
    tables = {row.relname: Table(row.live, row.dead, row.bytes) for row in rows}
    return DatabaseHealth(float(oldest), tables, connections, most, claim_by_index(session))


SIZE = sa.text("SELECT pg_relation_size('fibflow.task')")
SMALL = 256 * 1024
"""Bytes that are read as quickly as any index, and the planner knows it."""
TABLES = sa.text("""
    SELECT relname, n_live_tup AS live, n_dead_tup AS dead, pg_total_relation_size(relid) AS bytes
    FROM pg_stat_user_tables WHERE schemaname = 'fibflow'
""")
SESSIONS = sa.text("""
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start))
                    FILTER (WHERE datname = current_database() AND pid <> pg_backend_pid()), 0) AS oldest,
           count(*) AS connections, current_setting('max_connections')::int AS most
    FROM pg_stat_activity WHERE backend_type = 'client backend'
""")


def claim_by_index(session: Session) -> bool:
    """Whether the plan of a claim finds ready tasks by the index that is made for it, or the table is too small to need it."""
    parameters = {
        "types": integers([1]),
        "rooms": integers([10]),
        "lows": integers([LOWEST]),
        "limit": 10,
        "worker": 0,
        "default_timeout": round(DEFAULT_TIMEOUT * SECOND),
    }
    explain = sa.text(f"EXPLAIN (FORMAT JSON) {claim_statement(False).text}")
    found = session.connection.execute(explain, parameters).scalar_one()
    plan = json.loads(found)[0]["Plan"] if isinstance(found, str) else found[0]["Plan"]
    return _walks_the_index(plan) or session.connection.execute(SIZE).scalar_one() <= SMALL


def _walks_the_index(plan: Mapping[str, Any]) -> bool:
    return plan.get("Index Name") == "task_claim" or any(map(_walks_the_index, plan.get("Plans", ())))
