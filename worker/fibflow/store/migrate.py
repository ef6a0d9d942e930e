"""Migrations: bring a database to the newest schema.

A migration runs in one transaction that holds a lock from its first statement: PostgreSQL's advisory lock, SQLite's
BEGIN IMMEDIATE. Whoever comes second waits, then finds nothing left to do. Which migration a schema stands at is told by
the row of `schema_version` (schema.py); alembic's own table says the same to alembic.

What a migration does is in migrations/versions/. The tables as the code sees them are in tables/.
"""

from __future__ import annotations

import threading

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from fibflow.errors import DatabaseUnavailable
from fibflow.store.address import shown
from fibflow.store.database import Database, Session, write
from fibflow.store.installation import check_installation
from fibflow.store.schema import SCRIPTS, newest, refuse_newer, stored_in, stored_version, versions

ADVISORY_LOCK = 0x666962666C6F77  # "fibflow"
PATIENCE = 600.0  # seconds that one program waits until another has migrated
A_LITTLE = 0.5  # seconds until a database that does not answer is asked again
ONE_AT_A_TIME = threading.Lock()  # alembic keeps the migration that it runs in module variables


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
    stored = stored_in(session)
    if stored is not None and stored.version not in versions():
        refuse_newer(url, stored)
        return stored.version
    config = _config()
    config.attributes["connection"] = session.connection
    command.upgrade(config, "head")
    return newest()


def _lock(session: Session) -> None:
    """On SQLite the transaction has begun as a writer's."""
    if session.postgresql:
        from fibflow.store.psycopg_connections import allow

        allow(session.connection, PATIENCE)
        for limit in ("lock_timeout", "statement_timeout"):
            session.connection.execute(sa.select(sa.func.set_config(limit, f"{PATIENCE:.0f}s", True)))
        session.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
