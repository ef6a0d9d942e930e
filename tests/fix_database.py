"""A migrated database for the tests of what both databases must do alike, and its clock.

A test that takes `database` runs twice: on a SQLite file of its own and on a PostgreSQL database of its own.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from fibflow.model import SECOND
from fibflow.store.clock import Clock
from fibflow.store.database import Database
from fibflow.store.migrate import migrate


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file that nobody writes to: a test pays for a copy and not for migrations."""
    template = tmp_path_factory.mktemp("template") / "fibflow.db"
    migrate(f"sqlite:///{template}")
    return template


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a migrated database, once for each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    copy = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "fibflow.db")
    return f"sqlite:///{copy}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database, once for each kind."""
    opened = Database(database_url)
    yield opened
    opened.close()


def move_clock(database: Database, seconds: float) -> None:
    """Step the database's clock on, or back: at once, and for every connection of every process that sees this one.

    SQLite has no clock of its own, so there it is the clock of this `Database`, which others may share.
    """
    database.clock.offset += round(seconds * SECOND)
    if database.postgresql:
        _tell_the_time(database, f"(extract(epoch FROM statement_timestamp()) * 1000000)::bigint + {database.clock.offset}")


def wait_for_a_lock(database: Database, statement: str, seconds: float = 10.0) -> None:
    """Wait until a connection of this PostgreSQL database waits for a lock in a statement LIKE this one."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE :statement"
    )
    deadline = time.monotonic() + seconds
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
        while not looking.execute(query, {"statement": statement}).scalar_one():
            assert time.monotonic() < deadline, f"nobody waits in {statement}"


def stop_clock(database: Database, instant: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be this instant, microseconds, from now on (on SQLite, for connections that are made from now on)."""
    monkeypatch.setattr(Clock, "now", lambda clock: instant)
    if database.postgresql:
        _tell_the_time(database, f"{instant}::bigint")
    database.close()


def _tell_the_time(database: Database, expression: str) -> None:
    # A new body of the function reaches connections that are in use, in a loop, or another process's.
    function = "CREATE OR REPLACE FUNCTION fibflow.fibflow_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE"
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"{function} AS 'SELECT {expression}'")
