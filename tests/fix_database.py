"""A migrated database for the tests of what both databases must do alike, and its clock.

A test that takes `database` runs twice: on a SQLite file of its own and on a PostgreSQL database of its own.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fibflow.model import SECOND
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
    """Step the database's clock on, or back, for every connection that it makes from now on.

    PostgreSQL keeps the offset with the database, so that other processes see it too. Connections that are in use, and
    an async engine's, keep their clock: move it first.
    """
    database.clock.offset += round(seconds * SECOND)
    if database.postgresql:
        name = database.engine.dialect.identifier_preparer.quote(str(database.url.database))
        with database.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET fibflow.clock_offset = '{database.clock.offset}'")
        database.engine.dispose()
