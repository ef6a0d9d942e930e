"""Migrations: bring a database to the newest schema, and tell a program that the schema is not the one it needs.

A migration runs in one transaction that holds a lock from its first statement: PostgreSQL's advisory lock, SQLite's
BEGIN IMMEDIATE. Whoever comes second waits, then finds nothing left to do. The row of `schema_version` says which
migration the schema stands at and which code is too old for it; alembic's own table says the same to alembic.

What a migration does is in migrations/versions/. The tables as the code sees them are in tables.py.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from fibflow.errors import DatabaseUnavailable, SchemaMismatch
from fibflow.store.address import shown
from fibflow.store.database import Database, Session, read, write
from fibflow.store.installation import check_installation
from fibflow.store.tables import schema_version
from fibflow.version import __version__

SCRIPTS = Path(__file__).parent / "migrations"
ADVISORY_LOCK = 0x666962666C6F77  # "fibflow"
PATIENCE = "10min"  # how long one program waits until another has migrated
A_LITTLE = 0.5  # seconds until a database that does not answer is asked again
ONE_AT_A_TIME = threading.Lock()  # alembic keeps the migration that it runs in module variables


class Stored(NamedTuple):
    """What a database says of its schema: the migration it stands at, and the oldest code that works with it."""

    version: str
    oldest_code: str


def migrate(database: Database | str, installation: str | None = None) -> str:
    """Bring a database, or the one at a URL, to the newest schema; its version. Repeating it changes nothing.

    Raises InvalidInput, DatabaseUnavailable, and SchemaMismatch for a schema that is newer than this code; with an
    `installation`, OtherInstallation for a database that serves another one.
    """
    if isinstance(database, Database):
        if installation is not None and database.call(stored_version) is not None:
            database.call(check_installation, installation)
        with ONE_AT_A_TIME:
            return database.call(upgrade, shown(database.url))
    own = Database(database)
    try:
        return migrate(own, installation)
    finally:
        own.close()


def migrate_when_up(url: str, patience: float, installation: str | None = None) -> str:
    """`migrate`, as soon as the database answers. Raises DatabaseUnavailable once it has not for so many seconds."""
    unanswered = retry_if_exception_type(DatabaseUnavailable)
    waiting = Retrying(retry=unanswered, stop=stop_after_delay(patience), wait=wait_fixed(A_LITTLE), reraise=True)
    return waiting(migrate, url, installation)


@write
def upgrade(session: Session, url: str) -> str:
    """Run the migrations that are missing, inside the caller's transaction."""
    _lock(session)
    stored = _stored(session)
    if stored is not None and stored.version not in _versions():
        _refuse_newer(url, stored)
        return stored.version
    config = _config()
    config.attributes["connection"] = session.connection
    command.upgrade(config, "head")
    return newest()


def _lock(session: Session) -> None:
    """On SQLite the transaction has begun as a writer's."""
    if session.postgresql:
        for limit in ("lock_timeout", "statement_timeout"):
            session.connection.execute(sa.select(sa.func.set_config(limit, PATIENCE, True)))
        session.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))


def check_schema(database: Database) -> None:
    """Raise SchemaMismatch, which says what to run, unless this code works with the database's schema."""
    url = shown(database.url)
    stored = database.call(stored_version)
    if stored is None:
        raise SchemaMismatch(f"{url} lacks fibflow's tables: run `fibflow migrate`")
    if stored.version in _versions() - {newest()}:
        raise SchemaMismatch(f"{url} has schema {stored.version}, older than {newest()}: run `fibflow migrate`")
    _refuse_newer(url, stored)


def _refuse_newer(url: str, stored: Stored) -> None:
    if _numbers(stored.oldest_code) > _numbers(__version__):
        raise SchemaMismatch(
            f"{url} has schema {stored.version}, too new for fibflow {__version__}: "
            f"install fibflow {stored.oldest_code} or newer"
        )


@read
def stored_version(session: Session) -> Stored | None:
    """The row that says what the schema is; None for a database that has none."""
    return _stored(session)


def _stored(session: Session) -> Stored | None:
    schema = schema_version.schema if session.postgresql else None
    if not sa.inspect(session.connection).has_table(schema_version.name, schema=schema):
        return None
    query = sa.select(schema_version.c.version, schema_version.c.oldest_code)
    row = session.connection.execute(query).first()
    return None if row is None else Stored(row.version, row.oldest_code)


def newest() -> str:
    """The version that `migrate` leads to."""
    return str(_scripts().get_current_head())


def _versions() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts().walk_revisions())


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _numbers(version: str) -> tuple[int, ...]:
    """A version as it compares; what follows the numbers (rc1, .dev0) is of no weight here."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
