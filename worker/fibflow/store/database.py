"""One database, PostgreSQL or SQLite, and the one way a verb reaches it.

A verb is a plain function on a `Session`. `Database.call` runs it here and now; `Database.run` awaits it: on
PostgreSQL in a greenlet that awaits the driver, on SQLite in a thread. There is no second implementation of any verb.

How a verb wants to be run is written on it by a decorator:

    @read        SELECTs that write nothing; on SQLite in a transaction, on PostgreSQL in none
    @statement   a single statement that is its own transaction
    @write       a transaction; repeated after a deadlock; a connection lost at COMMIT is OutcomeUnknown

Every call has a deadline (statement_timeout, busy_timeout, keepalives), so that no loop above can hang. What is stored,
and how, is not known here.
"""

from __future__ import annotations

import asyncio
import copy
import math
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool, StaticPool
from sqlalchemy.util import greenlet_spawn
from tenacity import AsyncRetrying, Retrying

from fibflow import encoding
from fibflow.errors import DatabaseError, DatabaseUnavailable, InvalidInput, OutcomeUnknown, SchemaMismatch
from fibflow.model import SECOND
from fibflow.store.clock import Clock, now
from fibflow.store.repeats import Transient, limited, until

P = ParamSpec("P")
R = TypeVar("R")

PRIORITY_STEP = 60 * SECOND
"""So much earlier does one step of priority make a task, in microseconds (the order of claims)."""


@dataclass(slots=True)
class Session:
    """What a verb works on: a connection inside its transaction, and the namespace it speaks for."""

    connection: sa.Connection
    namespace: str = "default"
    priority_step: int = PRIORITY_STEP
    wakes: Wakes = field(default_factory=lambda: Wakes())
    later: list[Callable[[], object]] = field(default_factory=list)

    @property
    def postgresql(self) -> bool:
        return self.connection.dialect.name == "postgresql"

    def after(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Do this when the transaction is committed: count, or tell. What was rolled back is not told."""
        self.later.append(partial(call, *args, **kwargs))

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

        Where a task's latency is made, SQLAlchemy's cache and results would cost as much as the statement.
        """
        if not self.connection.in_transaction():
            self.connection.begin()
        text, constants = in_words(statement)
        driver, dialect = self.connection.connection, self.connection.dialect
        cursor = driver.cursor()
        try:
            cursor.execute(text, constants | dict(parameters))
            return list(cursor.fetchall())
        except dialect.loaded_dbapi.Error as error:
            lost = dialect.is_disconnect(error, driver.dbapi_connection, cursor)
            if lost:
                self.connection.invalidate(error)
            kind = dialect.loaded_dbapi.Error
            raise DBAPIError.instance(text, dict(parameters), error, kind, connection_invalidated=lost) from error

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
    """When this process last told idle workers of a task type (monotonic seconds), to tell them a few times at most."""

    last: dict[int, float] = field(default_factory=dict)


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


def _mode(verb: Callable[..., Any]) -> Mode:
    return getattr(verb, "mode", Mode.WRITE)


A_DAY = 24 * 3600.0
"""Seconds of the longest patience; the databases count milliseconds in 32 bits."""

SINGLE: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
"""A connection for statements that are their own transactions leaves nothing behind that a reset would undo."""


class Database:
    """Connections to one database. Cheap to make; connects when first used; `close` it in the end.

    `url`: `sqlite:///file.db`, `sqlite://` (memory), `postgresql://user@host/name`. `statement_timeout` in seconds.

    `patience`: seconds, and all that a call spends on others' locks: one wait for a lock or for SQLite's file lasts no
    longer, and what did nothing (a deadlock, a busy file) is repeated until they are over, then DatabaseUnavailable. A
    connection of ours that stands still inside a transaction, or whose network is silent, is given up after as long, so
    that others get its locks: keep it below half of the shortest lease of this database's workers. Raises InvalidInput.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "default",
        statement_timeout: float = 30.0,
        pool_size: int = 4,
        priority_step: int = PRIORITY_STEP,
        patience: float = 10.0,
    ) -> None:
        self.url = parse_url(url)
        self.namespace = namespace
        self.statement_timeout = statement_timeout
        self.pool_size = pool_size
        self.priority_step = priority_step
        self.patience = float(encoding.number(patience, "patience", 0.01, A_DAY))
        self.lock_wait = math.inf
        self.clock = Clock()
        self.wakes = Wakes()
        self._memory_lock = threading.RLock() if self.in_memory else nullcontext()

    def apart(
        self,
        *,
        patience: float,
        lock_wait: float = math.inf,
        statement_timeout: float = math.inf,
        pool_size: int | None = None,
    ) -> Self:
        """Connections of their own to the same database, which wait no longer than that; in memory there are no others.

        `lock_wait`: seconds of one wait for a lock (PostgreSQL), after which a call repeats itself, or its caller does
        otherwise (`once`).
        """
        if self.in_memory:
            return self
        other = copy.copy(self)
        for name in CONNECTED:
            vars(other).pop(name, None)
        other.patience = min(self.patience, patience)
        other.lock_wait = min(self.lock_wait, lock_wait)
        other.statement_timeout = min(self.statement_timeout, statement_timeout)
        other.pool_size = pool_size or self.pool_size
        return other

    @property
    def postgresql(self) -> bool:
        return self.url.get_backend_name() == "postgresql"

    @property
    def in_memory(self) -> bool:
        return not self.postgresql and self.url.database in (None, "", ":memory:")

    @cached_property
    def engine(self) -> sa.Engine:
        """For threads, and for SQLite."""
        if self.postgresql:
            return sa.create_engine(self.url, **self._postgresql_pool())
        return _sqlite_engine(self.url, self.clock, self.in_memory, self.patience)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """Where verbs run that would block the event loop (SQLite)."""
        return ThreadPoolExecutor(8, thread_name_prefix="database")

    @cached_property
    def async_engine(self) -> AsyncEngine:
        """For the event loop; PostgreSQL only."""
        return create_async_engine(self.url, **self._postgresql_pool())

    @cached_property
    def _autocommit(self) -> sa.Engine:
        return sa.create_engine(self.url, **self._postgresql_pool(), **SINGLE) if self.postgresql else self.engine

    @cached_property
    def _async_autocommit(self) -> AsyncEngine:
        return create_async_engine(self.url, **self._postgresql_pool(), **SINGLE)

    def _postgresql_pool(self) -> dict[str, Any]:
        """Connections live for a minute or so: the plans that they keep may be older than what the tables hold."""
        return {"connect_args": self._postgresql_arguments(), "pool_size": self.pool_size, "pool_recycle": 60}

    def _postgresql_arguments(self) -> dict[str, Any]:
        milliseconds = round(self.statement_timeout * 1000)
        patience = round(self.patience * 1000)
        lock_wait = round(min(self.lock_wait, self.patience) * 1000)
        options = (
            f"-c statement_timeout={milliseconds} -c idle_in_transaction_session_timeout={patience} -c lock_timeout={lock_wait}"
        )
        given = self.url.query.get("options")
        return {
            "application_name": "fibflow",
            "connect_timeout": max(1, min(5, round(self.patience))),
            "options": f"{options} {given}" if isinstance(given, str) else options,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": patience,
        }

    # ── running a verb ────────────────────────────────────────────────────────────────────────────────────────

    def call(self, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a verb in this thread. Raises DatabaseUnavailable, OutcomeUnknown, SchemaMismatch, and what the verb raises."""
        deadline = time.monotonic() + self.patience
        try:
            return self._once(self._engine_for(verb), verb, *args, **kwargs)
        except Transient as busy:
            again = self._again(verb, deadline, busy)
        try:
            result: R = Retrying(**until(deadline))(self._once, self._engine_for(again), again, *args, **kwargs)
            return result
        except Transient as busy:
            raise DatabaseUnavailable(str(busy)) from busy

    async def run(self, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a verb without blocking the event loop. Raises what `call` raises."""
        if not self.postgresql:
            return await self.in_a_thread(partial(self.call, verb, *args, **kwargs))
        deadline = time.monotonic() + self.patience
        try:
            return await self._once_async(verb, *args, **kwargs)
        except Transient as busy:
            again = self._again(verb, deadline, busy)
        try:
            return await AsyncRetrying(**until(deadline))(self._once_async, again, *args, **kwargs)
        except Transient as busy:
            raise DatabaseUnavailable(str(busy)) from busy

    async def once(self, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a verb that its caller would rather do otherwise than again. Raises what `run` raises.

        On PostgreSQL it is not repeated, and raises Transient when it did nothing: a deadlock, or a lock that others hold.
        """
        if not self.postgresql:
            return await self.run(verb, *args, **kwargs)
        return await self._once_async(verb, *args, **kwargs)

    def _again(self, verb: Verb[P, R], deadline: float, busy: Transient) -> Verb[P, R]:
        """What is to be repeated, of a verb that did nothing. Raises DatabaseUnavailable when patience is over."""
        if time.monotonic() >= deadline:
            raise DatabaseUnavailable(str(busy)) from busy
        return limited(verb, deadline) if self.postgresql else verb

    def _async_engine_for(self, verb: Callable[..., Any]) -> sa.Engine:
        """To be used inside `greenlet_spawn`: it awaits wherever a thread would block."""
        return (self.async_engine if _mode(verb) is Mode.WRITE else self._async_autocommit).sync_engine

    async def _once_async(self, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """All of a call in one greenlet: each one more costs as much as the statement."""
        result: R = await greenlet_spawn(partial(self._once, self._async_engine_for(verb), verb, *args, **kwargs))
        return result

    async def in_a_thread(self, call: Callable[[], R]) -> R:
        """Call where it blocks nobody, and where no handler's threads are in the way."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, call)

    def _engine_for(self, verb: Callable[..., Any]) -> sa.Engine:
        return self.engine if _mode(verb) is Mode.WRITE else self._autocommit

    def _once(self, engine: sa.Engine, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        mode = _mode(verb)
        committing = False
        try:
            with self._memory_lock, engine.connect() as connection:
                committing = mode is Mode.STATEMENT
                if mode is Mode.READ:
                    connection = connection.execution_options(fibflow_read=True)
                session = self._session(connection)
                result = verb(session, *args, **kwargs)
                committing = mode is not Mode.READ
                connection.commit()
        except FAULTS as error:
            raise explained(error, committing, self.url) from error
        _tell(session)
        return result

    def _session(self, connection: sa.Connection) -> Session:
        return Session(connection, self.namespace, self.priority_step, self.wakes)

    def close(self) -> None:
        """Close the connections that threads use (and SQLite's)."""
        for engine in ("engine", "_autocommit"):
            if engine in self.__dict__:
                self.__dict__[engine].dispose()
        self._leave_threads()

    def _leave_threads(self) -> None:
        if "_threads" in self.__dict__:
            self.__dict__.pop("_threads").shutdown(wait=False)

    async def aclose(self) -> None:
        """Close all connections."""
        for engine in ("async_engine", "_async_autocommit"):
            if engine in self.__dict__:
                await self.__dict__[engine].dispose()
        self.close()


CONNECTED = ("engine", "_autocommit", "async_engine", "_async_autocommit", "_threads")
"""What a Database makes when it is first used."""


def _tell(session: Session) -> None:
    """What was kept until the transaction was committed."""
    for call in session.later:
        call()


def parse_url(url: str) -> sa.URL:
    """A database URL, with psycopg as PostgreSQL's driver. Raises InvalidInput."""
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
        url.encode()
    except (sa.exc.ArgumentError, NoSuchModuleError, ValueError) as error:  # a port that is no number, half a character
        raise InvalidInput("database", masked(url), f"is not a database URL; {WAY_OUT}") from error
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    raise InvalidInput("database", masked(url), f"is of a kind that is not supported; {WAY_OUT}")


def masked(url: str) -> str:
    """What a person wrote for a URL, without what may be a password."""
    return SECRET.sub(r"\1=***", re.sub(r"//.*@", "//***@", url))


SECRET = re.compile(r"(\w*password\w*)=[^&]*", re.IGNORECASE)
"""An option of a URL that holds a password."""


WAY_OUT = "write sqlite:///FILE or postgresql://USER@HOST/NAME"


def _sqlite_engine(url: sa.URL, clock: Clock, in_memory: bool, patience: float) -> sa.Engine:
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


DEADLOCK_OR_SERIALIZATION = frozenset({"40001", "40P01", "55P03"})
UNDEFINED_TABLE_OR_SCHEMA = frozenset({"42P01", "3F000", "42883", "42703"})


FAULTS = (DBAPIError, PoolTimeout, UnicodeError, OverflowError)
"""What a driver or the pool may raise; the last two are values that no column holds."""


def explained(error: Exception, committing: bool, url: sa.URL) -> Exception:
    """What a driver's error means for the caller: to be repeated, unknown, not there, or as it is."""
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable(f"{shown(url)} is not available: all connections of this program are in use")
    if not isinstance(error, DBAPIError):
        return DatabaseError(f"{shown(url)} refused: {_line(str(error))}")
    code = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    registered_meanwhile = code == "23505" and "worker_identity" in text
    if code in DEADLOCK_OR_SERIALIZATION or registered_meanwhile or "database is locked" in text:
        return Transient(text)
    if code in UNDEFINED_TABLE_OR_SCHEMA or "no such table" in text or "no such column" in text:
        return SchemaMismatch(f"{shown(url)} lacks fibflow's tables or has older ones: run `fibflow migrate` ({_line(text)})")
    answered = code is not None or url.get_backend_name() != "postgresql"
    if committing and not answered and (error.connection_invalidated or isinstance(error, OperationalError)):
        return OutcomeUnknown(f"the connection broke while the answer was awaited: {_line(text)}")
    if error.connection_invalidated or isinstance(error, OperationalError):
        return DatabaseUnavailable(f"{shown(url)} is not available: {_line(text)}")
    return DatabaseError(f"{shown(url)} refused: {_line(text)}")


def shown(url: sa.URL) -> str:
    """A URL without its password."""
    told = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
    return SECRET.sub(r"\1=***", told)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def sqlite_path(url: sa.URL) -> Path | None:
    """The file of a SQLite database; None in memory."""
    return Path(url.database) if url.database and url.database != ":memory:" else None
