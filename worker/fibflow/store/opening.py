"""From what a program has at hand to a `Database`: a URL, an engine of its own, a Database, or the environment.

An engine stays its maker's: its pool and its timeouts are used as they are, and closing what is made here leaves it
open. On SQLite our transactions still queue by BEGIN IMMEDIATE and read our clock; the engine's own ones do not change.
"""

from __future__ import annotations

import copy
import os
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from fibflow import encoding
from fibflow.errors import InvalidInput
from fibflow.store.address import WAY_OUT
from fibflow.store.clock import Clock
from fibflow.store.database import Database, Verb

P = ParamSpec("P")
R = TypeVar("R")

Place = str | sa.URL | sa.Engine | AsyncEngine | Database | None
"""What names a database; None for the one that FIBFLOW_DATABASE names."""


def opened(place: Place, namespace: str | None = None) -> Database:
    """The database at a place. Raises InvalidInput for what is none, and for a Database of another namespace."""
    encoding.optional_text(namespace, "namespace", longest=253)
    if isinstance(place, Database):
        if namespace not in (None, place.namespace):
            raise InvalidInput("namespace", namespace, f"is not the Database's own, {place.namespace!r}; leave it out")
        return place
    chosen = namespace or os.environ.get("FIBFLOW_NAMESPACE") or "default"
    if isinstance(place, sa.Engine | AsyncEngine):
        return Borrowed(place, chosen)
    return Database(_url(place), namespace=chosen)


def _url(place: object) -> str:
    if place is None:
        place = os.environ.get("FIBFLOW_DATABASE") or None
    if isinstance(place, sa.URL):
        return place.render_as_string(hide_password=False)
    if isinstance(place, str):
        return place
    missing = "is missing; set FIBFLOW_DATABASE, or" if place is None else "is not a database;"
    raise InvalidInput("database", place, f"{missing} pass a URL, a SQLAlchemy engine or a Database ({WAY_OUT})")


class Borrowed(Database):
    """A database by an engine that somebody else made and closes."""

    def __init__(self, engine: sa.Engine | AsyncEngine, namespace: str) -> None:
        super().__init__(engine.url.render_as_string(hide_password=False), namespace=namespace)
        self._awaits = isinstance(engine, AsyncEngine)
        self._own = self._awaits
        if self.postgresql and engine.driver != "psycopg":
            raise InvalidInput("database", engine, "has another driver; write postgresql+psycopg://USER@HOST/NAME")
        if isinstance(engine, AsyncEngine):
            if not self.postgresql:
                raise InvalidInput("database", engine, "is async; give SQLite's create_engine, its calls run in threads")
            self.async_engine = engine
            self._async_autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        elif self.postgresql:
            self.engine, self._autocommit = engine, engine.execution_options(isolation_level="AUTOCOMMIT")
        else:
            self.engine = self._autocommit = _with_our_transactions(engine, self.clock)

    def apart(self, *, pool_size: int | None = None, **limits: Any) -> Self:
        """The engine's connections, which its maker has limited; or so many of their own, made as the engine makes them."""
        if pool_size is None or not self.postgresql:
            return self
        if self._awaits:
            return super().apart(pool_size=pool_size, **limits)
        other = copy.copy(self)
        vars(other).pop("_threads", None)
        other.engine = sa.create_engine(self.engine.url, pool=self.engine.pool.recreate())
        other._autocommit = other.engine.execution_options(isolation_level="AUTOCOMMIT")
        other._own = True
        return other

    async def run(self, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a verb without blocking the event loop: in a thread, unless the engine is async."""
        if self._awaits:
            return await super().run(verb, *args, **kwargs)
        return await self.in_a_thread(partial(self.call, verb, *args, **kwargs))

    async def once(self, verb: Verb[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `run`, unless the engine is async."""
        return await (super().once if self._awaits else self.run)(verb, *args, **kwargs)

    def close(self) -> None:
        """Its maker closes the engine; beside it there may be one of our own."""
        if self._own:
            super().close()
        else:
            self._leave_threads()

    async def aclose(self) -> None:
        self.close()


def _with_our_transactions(engine: sa.Engine, clock: Clock) -> sa.Engine:
    """The same pool, seen through an engine whose transactions are as in database.py."""
    own = engine.execution_options(schema_translate_map={"fibflow": None})

    @sa.event.listens_for(own, "engine_connect")
    def connect(connection: sa.Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.create_function("fibflow_now", 0, clock.now)

    @sa.event.listens_for(own, "begin")
    def begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("fibflow_read", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return own
