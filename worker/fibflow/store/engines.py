"""What connections are made with: their limits on PostgreSQL, and on SQLite its clock, its journal and its transactions."""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool, StaticPool

from fibflow.store.clock import Clock

SINGLE: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
"""A connection for statements that are their own transactions leaves nothing behind that a reset would undo."""


KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""Seconds of silence until a side asks whether the other is there, from then on between two questions; and how many."""


def postgresql_arguments(url: sa.URL, statement_timeout: float, patience: float, lock_wait: float) -> dict[str, Any]:
    """What psycopg connects with: no call, no silence and no lock lasts longer than that. Seconds.

    The network's silence has the same limits on either side. While the server sends an answer that nobody takes, its own
    `tcp_user_timeout` alone ends the session, and with it the locks: nothing else is counted meanwhile.
    """
    limits = {
        "statement_timeout": statement_timeout,
        "idle_in_transaction_session_timeout": patience,
        "lock_timeout": lock_wait,
        "tcp_user_timeout": patience,
    }
    settings = {name: round(seconds * 1000) for name, seconds in limits.items()}
    settings |= {f"tcp_{name}": value for name, value in KEEPALIVES.items()}
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    given = url.query.get("options")
    return {
        "application_name": "fibflow",
        "connect_timeout": max(1, min(5, round(patience))),
        "options": f"{options} {given}" if isinstance(given, str) else options,
        **KEEPALIVES,
        "tcp_user_timeout": round(patience * 1000),
    }


def longest_wait(url: sa.URL, statement_timeout: float, patience: float) -> float | None:
    """Seconds until an answer is not waited for any more; None where the address has a limit for statements of its own."""
    own = "statement_timeout" in str(url.query.get("options"))
    return None if own else statement_timeout + patience


def sqlite_engine(url: sa.URL, clock: Clock, in_memory: bool, patience: float) -> sa.Engine:
    """One file, or memory with one shared connection. Writers queue by BEGIN IMMEDIATE."""
    engine = sa.create_engine(
        url,
        poolclass=StaticPool if in_memory else QueuePool,
        connect_args={"check_same_thread": False, "timeout": patience, "isolation_level": None},
    ).execution_options(schema_translate_map={"fibflow": None})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.create_function("fibflow_now", 0, clock.now)
        if not in_memory:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA busy_timeout={round(patience * 1000)}")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("fibflow_read", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
