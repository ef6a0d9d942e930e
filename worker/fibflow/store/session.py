"""What a verb works on, and how it says how it wants to be run.

A verb is a plain function on a `Session`: a connection inside its transaction. Which connection, and how often, is the
story of database.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import DBAPIError

from fibflow.model import SECOND
from fibflow.store.clock import now

P = ParamSpec("P")
R = TypeVar("R")

PRIORITY_STEP = 60 * SECOND
"""So much earlier does one step of priority make a task, in microseconds (the order of claims)."""


@dataclass(slots=True)
class Session:
    """What a verb works on: a connection inside its transaction, and the namespace it speaks for.

    `single`: the connection commits each statement by itself (PostgreSQL), and is in no transaction.
    """

    connection: sa.Connection
    namespace: str = "default"
    priority_step: int = PRIORITY_STEP
    wakes: Wakes = field(default_factory=lambda: Wakes())
    later: list[Callable[[], object]] = field(default_factory=list)
    single: bool = False

    @property
    def postgresql(self) -> bool:
        return self.connection.dialect.name == "postgresql"

    def after(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Do this when the transaction is committed: count, or tell. What was rolled back is not told."""
        self.later.append(partial(call, *args, **kwargs))

    def tell(self) -> None:
        """Do what was kept until the transaction was committed."""
        for call in self.later:
            call()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What fails within is undone, and not told either."""
        kept = len(self.later)
        try:
            with self.connection.begin_nested():
                yield
        except BaseException:
            del self.later[kept:]
            raise

    def fetch(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement that is made once (PostgreSQL), from the driver itself.

        Where a task's latency is made: SQLAlchemy's cache and results took a third of a claim's CPU. A connection's cursor
        is used again, unless it fetched many rows, for it holds on to them.
        """
        if not (self.single or self.connection.in_transaction()):
            self.connection.begin()
        text, constants = in_words(statement)
        driver, dialect = self.connection.connection, self.connection.dialect
        cursor = driver.info.pop("cursor", None) or driver.cursor()
        try:
            cursor.execute(text, constants | dict(parameters))
            rows = list(cursor.fetchall())
        except dialect.loaded_dbapi.Error as error:
            lost = dialect.is_disconnect(error, driver.dbapi_connection, cursor)
            if lost:
                self.connection.invalidate(error)
            kind = dialect.loaded_dbapi.Error
            raise DBAPIError.instance(text, dict(parameters), error, kind, connection_invalidated=lost) from error
        if len(rows) <= 1:
            driver.info["cursor"] = cursor
        return rows

    def now(self) -> int:
        """The database's clock, microseconds since the epoch."""
        return self.connection.execute(NOW).scalar_one()


NOW = sa.select(now())
DRIVER: sa.Dialect = psycopg.dialect()  # type: ignore[no-untyped-call]


@cache
def in_words(statement: sa.Executable) -> tuple[str, dict[str, Any]]:
    """A statement as the driver takes it, and the parameters that are constant."""
    compiled = statement.compile(dialect=DRIVER)  # type: ignore[attr-defined]
    return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}


@dataclass(slots=True)
class Wakes:
    """When this process last told idle workers of a task type (monotonic seconds), to tell them a few times at most; and who
    in this process is told, where no server tells (notices.py)."""

    last: dict[int, float] = field(default_factory=dict)
    ears: list[Callable[[str], None]] = field(default_factory=list)

    def tell(self, told: str) -> None:
        """Tell whoever listens in this process."""
        for ear in tuple(self.ears):
            ear(told)


class Mode(Enum):
    """How a verb wants to be run; see the module's docstring."""

    READ = "read"
    STATEMENT = "statement"
    WRITE = "write"


Verb = Callable[Concatenate[Session, P], R]


def read(verb: Callable[P, R]) -> Callable[P, R]:
    """Mark a verb as SELECTs only."""
    return _marked(verb, Mode.READ)


def statement(verb: Callable[P, R]) -> Callable[P, R]:
    """Mark a verb as one statement that needs no transaction around it."""
    return _marked(verb, Mode.STATEMENT)


def write(verb: Callable[P, R]) -> Callable[P, R]:
    """Mark a verb as a transaction."""
    return _marked(verb, Mode.WRITE)


def _marked(verb: Callable[P, R], mode: Mode) -> Callable[P, R]:
    verb.mode = mode  # type: ignore[attr-defined]
    return verb


def mode_of(verb: Callable[..., Any]) -> Mode:
    return getattr(verb, "mode", Mode.WRITE)
