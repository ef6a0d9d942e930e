"""What schema a database has, and whether this code works with it: every program asks before it starts.

The row of `schema_version` says which migration the schema stands at and which code is too old for it. How it gets there
is the story of migrate.py; what it needs to know of migrations is in the names of their files, so that a program that
migrates nothing does not load what does.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from fibflow.errors import SchemaMismatch
from fibflow.store.address import shown
from fibflow.store.database import Database, Session, read
from fibflow.store.tables import schema_version
from fibflow.version import __version__

SCRIPTS = Path(__file__).parent / "migrations"


class Stored(NamedTuple):
    """What a database says of its schema: the migration it stands at, and the oldest code that works with it."""

    version: str
    oldest_code: str


def check_schema(database: Database) -> None:
    """Raise SchemaMismatch, which says what to run, unless this code works with the database's schema."""
    url = shown(database.url)
    stored = database.call(stored_version)
    if stored is None:
        raise SchemaMismatch(f"{url} lacks fibflow's tables: run `fibflow migrate`")
    if stored.version in versions() - {newest()}:
        raise SchemaMismatch(f"{url} has schema {stored.version}, older than {newest()}: run `fibflow migrate`")
    refuse_newer(url, stored)


def refuse_newer(url: str, stored: Stored) -> None:
    """Raise SchemaMismatch if this code is too old for the schema."""
    if _numbers(stored.oldest_code) > _numbers(__version__):
        raise SchemaMismatch(
            f"{url} has schema {stored.version}, too new for fibflow {__version__}: "
            f"install fibflow {stored.oldest_code} or newer"
        )


@read
def stored_version(session: Session) -> Stored | None:
    """The row that says what the schema is; None for a database that has none."""
    return stored_in(session)


def stored_in(session: Session) -> Stored | None:
    """The same, inside a transaction."""
    schema = schema_version.schema if session.postgresql else None
    if not sa.inspect(session.connection).has_table(schema_version.name, schema=schema):
        return None
    query = sa.select(schema_version.c.version, schema_version.c.oldest_code)
    row = session.connection.execute(query).first()
    return None if row is None else Stored(row.version, row.oldest_code)


def newest() -> str:
    """The version that `migrate` leads to."""
    return max(versions())


@cache
def versions() -> frozenset[str]:
    """The migrations that this code knows: each file's name begins with its number."""
    return frozenset(file.name.partition("_")[0] for file in (SCRIPTS / "versions").glob("[0-9]*.py"))


def _numbers(version: str) -> tuple[int, ...]:
    """A version as it compares; what follows the numbers (rc1, .dev0) is of no weight here."""
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
