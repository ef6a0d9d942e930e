"""What a driver's error means for the caller: to be repeated, unknown, not there, refused, or as it is; and a count of each."""

from __future__ import annotations

import re
import sqlite3
from json import JSONDecodeError

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fibflow.errors import DatabaseDamaged, DatabaseError, DatabaseUnavailable, InvalidInput, OutcomeUnknown, SchemaMismatch
from fibflow.metrics import DATABASE_ERRORS
from fibflow.store.address import shown
from fibflow.store.repeats import Transient

DEADLOCK_OR_SERIALIZATION = frozenset({"40001", "40P01", "55P03"})
READ_ONLY = "25006"
"""The server takes no writes now: it is a standby, or its disk is nearly full. What was to be written is not at fault."""
UNDEFINED_TABLE_OR_SCHEMA = frozenset({"42P01", "3F000", "42703"})


WRONG_ADDRESS = re.compile(r"invalid (connection option|port number|\w+ value)")
"""What no server was asked for: the driver does not understand the address."""

FAULTS = (DBAPIError, PoolTimeout, UnicodeError, OverflowError, JSONDecodeError)
"""What a driver or the pool may raise; the last three are values that no column holds, or that none was given."""

NEVER_WRITTEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""SQLite's codes for pages that it did not write."""


def explained(error: Exception, committing: bool, url: sa.URL) -> Exception:
    """What a driver's error means for the caller: to be repeated, unknown, not there, or as it is."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable(f"{shown(url)} is not available: all connections of this program are in use")
    if url.get_backend_name() == "sqlite" and _never_written(error):
        return DatabaseDamaged(shown(url), _line(str(getattr(error, "orig", error))))
    if not isinstance(error, DBAPIError):
        return DatabaseError(f"{shown(url)} refused: {_line(str(error))}")
    return _of_driver(error, committing, url)


def _of_driver(error: DBAPIError, committing: bool, url: sa.URL) -> Exception:
    code = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    registered_meanwhile = code == "23505" and "worker_identity" in text
    if code in DEADLOCK_OR_SERIALIZATION or registered_meanwhile or "database is locked" in text:
        return Transient(f"{shown(url)} is not available: {_line(text)}")
    lacks_our_function = code == "42883" and "fibflow." in text
    if code in UNDEFINED_TABLE_OR_SCHEMA or lacks_our_function or "no such table" in text or "no such column" in text:
        return SchemaMismatch(f"{shown(url)} lacks fibflow's tables or has older ones: run `fibflow migrate` ({_line(text)})")
    if code is None and WRONG_ADDRESS.search(text):
        return InvalidInput("database", shown(url), f"is refused: {_line(text)}; mend that part of it")
    answered = code is not None or url.get_backend_name() != "postgresql"
    if committing and not answered and (error.connection_invalidated or isinstance(error, OperationalError)):
        return OutcomeUnknown(f"the connection broke while the answer was awaited: {_line(text)}")
    if error.connection_invalidated or isinstance(error, OperationalError) or code == READ_ONLY:
        return DatabaseUnavailable(f"{shown(url)} is not available: {_line(text)}")
    return DatabaseError(f"{shown(url)} refused: {_line(text)}")


def _never_written(error: Exception) -> bool:
    """Whether a file gave what its driver, or we, had never put there."""
    if isinstance(error, UnicodeDecodeError | JSONDecodeError):
        return True
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the upper bits tell more of the same
    return code in NEVER_WRITTEN or str(cause).startswith("Could not decode to UTF-8")


KINDS = {
    Transient: "contention",
    DatabaseUnavailable: "unavailable",
    OutcomeUnknown: "unknown",
    SchemaMismatch: "schema",
}


def counted(error: Exception) -> Exception:
    """The same error, counted by its kind in `fibflow_database_errors_total`."""
    DATABASE_ERRORS.labels(KINDS.get(type(error), "refused")).inc()
    return error


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
