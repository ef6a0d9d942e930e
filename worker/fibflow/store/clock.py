"""One clock, the database's: `fibflow_now()`, microseconds since the epoch. Tests move it; nobody sleeps.

PostgreSQL: a STABLE function of the statement's timestamp plus the session setting `fibflow.clock_offset`.
SQLite: a function registered on each connection (engines.py) that adds the offset of its `Clock`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from fibflow.model import SECOND

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class now(FunctionElement[int]):
    """`fibflow_now()` in a statement."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(now, "postgresql")
def _postgresql_now(element: now, compiler: Any, **kw: Any) -> str:
    return "fibflow.fibflow_now()"


@compiles(now, "sqlite")
def _sqlite_now(element: now, compiler: Any, **kw: Any) -> str:
    return "fibflow_now()"


@dataclass(slots=True)
class Clock:
    """SQLite's clock. `offset` in microseconds moves it."""

    offset: int = 0

    def now(self) -> int:
        return time.time_ns() // 1000 + self.offset


def to_datetime(instant: int | None) -> datetime | None:
    """Microseconds since the epoch as an aware datetime, exact."""
    return None if instant is None else EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> int:
    """An aware datetime as microseconds since the epoch, exact."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def micros(seconds: float | None) -> int | None:
    """A duration in seconds as whole microseconds."""
    return None if seconds is None else round(seconds * SECOND)


def seconds(micros: int | None) -> float | None:
    """A duration in microseconds as seconds."""
    return None if micros is None else micros / SECOND
