"""One database, PostgreSQL or SQLite, and the one way a verb reaches it.

A verb is a plain function on a `Session`. `Database.call` runs it here and now; `Database.run` awaits it: on
PostgreSQL in a greenlet that awaits the driver, on SQLite in a thread. There is no second implementation of any verb.

How a verb wants to be run is written on it by a decorator:

    @read        SELECTs that write nothing; on SQLite in a transaction, on PostgreSQL in none
    @statement   a single statement that is its own transaction
    @write       a transaction; repeated after a deadlock; a connection lost at COMMIT is OutcomeUnknown

Every call has a deadline (statement_timeout, busy_timeout, keepalives, and psycopg_connections.py), so that no loop above
can hang. What is stored, and how, is not known here.
"""

from __future__ import annotations

import asyncio
import copy
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from functools import cached_property, partial
from typing import Any, ParamSpec, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn
from tenacity import AsyncRetrying, Retrying

from fibflow import encoding
from fibflow.errors import DatabaseUnavailable
from fibflow.store.address import parse_url
from fibflow.store.clock import Clock
from fibflow.store.connection_cache import LONGEST, ConnectionCache
from fibflow.store.driver_errors import FAULTS, counted, explained
from fibflow.store.engines import SINGLE, longest_wait, postgresql_arguments, sqlite_engine
from fibflow.store.repeats import Transient, limited, until
from fibflow.store.session import PRIORITY_STEP, Mode, Session, Verb, Wakes, mode_of, read, statement, write

__all__ = ["PRIORITY_STEP", "Database", "Session", "Verb", "read", "statement", "write"]

P = ParamSpec("P")
R = TypeVar("R")

A_DAY = 24 * 3600.0
"""Seconds of the longest patience; the databases count milliseconds in 32 bits."""


class Database:
    """Connections to one database. Cheap to make; connects when first used; `close` it in the end.

    `url`: `sqlite:///file.db`, `sqlite://` (memory), `postgresql://user@host/name`. `statement_timeout` in seconds.

    `priority_step`: by how many microseconds a step of priority brings a task forward. With years of them priority alone
    decides, and then the time; it is to be the same in all programs of a database.

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
            return self._postgresql_engine()
        return sqlite_engine(self.url, self.clock, self.in_memory, self.patience)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        """Where runs what would block the event loop: SQLite's verbs, a look-up of PostgreSQL's name."""
        return ThreadPoolExecutor(8, thread_name_prefix="database")

    @cached_property
    def async_engine(self) -> AsyncEngine:
        """For the event loop; PostgreSQL only."""
        return create_async_engine(self.url, **self._async_pool())

    @cached_property
    def _autocommit(self) -> sa.Engine | ConnectionCache:
        if not self.postgresql:
            return self.engine
        return ConnectionCache(self._postgresql_engine(**SINGLE), self.pool_size)

    @cached_property
    def _async_autocommit(self) -> AsyncEngine:
        return create_async_engine(self.url, **self._async_pool(), **SINGLE)

    def _postgresql_engine(self, **more: Any) -> sa.Engine:
        from fibflow.store.psycopg_connections import waiting

        return waiting(sa.create_engine(self.url, **self._postgresql_pool(), **more), self._longest_wait)

    @property
    def _longest_wait(self) -> float | None:
        return longest_wait(self.url, self.statement_timeout, self.patience)

    def _postgresql_pool(self) -> dict[str, Any]:
        arguments = postgresql_arguments(self.url, self.statement_timeout, self.patience, min(self.lock_wait, self.patience))
        return {"connect_args": arguments, "pool_size": self.pool_size, "pool_recycle": LONGEST}

    def _async_pool(self) -> dict[str, Any]:
        from fibflow.store.psycopg_connections import connected

        pool = self._postgresql_pool()
        pool["connect_args"]["async_creator_fn"] = partial(connected, self.in_a_thread, self._longest_wait)
        return pool

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
        return (self.async_engine if mode_of(verb) is Mode.WRITE else self._async_autocommit).sync_engine

    async def _once_async(self, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """All of a call in one greenlet: one for each of its steps took a fifth of a claim's CPU."""
        result: R = await greenlet_spawn(partial(self._once, self._async_engine_for(verb), verb, *args, **kwargs))
        return result

    async def in_a_thread(self, call: Callable[[], R]) -> R:
        """Call where it blocks nobody, and where no handler's threads are in the way."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, call)

    def _engine_for(self, verb: Callable[..., Any]) -> sa.Engine | ConnectionCache:
        return self.engine if mode_of(verb) is Mode.WRITE else self._autocommit

    def _once(self, engine: sa.Engine | ConnectionCache, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        mode = mode_of(verb)
        committing = False
        try:
            with self._memory_lock, engine.connect() as connection:
                committing = mode is Mode.STATEMENT
                if mode is Mode.READ:
                    connection = connection.execution_options(fibflow_read=True)
                session = self._session(connection, single=self.postgresql and mode is not Mode.WRITE)
                result = verb(session, *args, **kwargs)
                committing = mode is not Mode.READ
                connection.commit()
        except FAULTS as error:
            raise counted(explained(error, committing, self.url)) from error
        session.tell()
        return result

    def _session(self, connection: sa.Connection, single: bool) -> Session:
        return Session(connection, self.namespace, self.priority_step, self.wakes, single=single)

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
