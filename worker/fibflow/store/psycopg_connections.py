"""psycopg's connections as ours are made: each waits for an answer only so long, and is lost then.

A server ends what takes too long, and the network's limits end what is not taken (engines.py). But a server that is frozen,
or a pooler whose own server is gone, takes every word and never answers: only the one who asked can end that. Whoever
asks differently, such as a migration, says so by `allow`.

It is imported where PostgreSQL is used and nowhere else: without it, its driver need not be installed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_attempts
from psycopg.errors import _WaitTimeout  # `wait` tells of it by this name

RV = TypeVar("RV")
WAKES = 0.1
"""Seconds after which a wait looks up, as psycopg has it."""


class Connection(psycopg.Connection[Any]):
    """For threads. `longest`: seconds of one wait."""

    longest: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = WAKES, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, self.longest if timeout is None else timeout)
        except _WaitTimeout:
            if timeout is None:
                self.pgconn.finish()  # an answer is owed yet, and nobody waits for it any more
            raise


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """For the event loop."""

    longest: float | None = None

    async def wait(self, gen: PQGen[RV], interval: float = WAKES, timeout: float | None = None) -> RV:
        try:
            return await super().wait(gen, interval, self.longest if timeout is None else timeout)
        except _WaitTimeout:
            if timeout is None:
                self.pgconn.finish()  # an answer is owed yet, and nobody waits for it any more
            raise


def waiting(engine: sa.Engine, longest: float | None) -> sa.Engine:
    """The engine, whose connections wait no longer than that."""

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: object, record: object, conninfo: list[str], arguments: dict[str, Any]) -> Connection:
        connection = Connection.connect(*conninfo, **arguments)
        connection.longest = longest
        return connection

    return engine


async def connected(
    in_a_thread: Callable[[Callable[[], dict[str, str]]], Awaitable[dict[str, str]]],
    longest: float | None,
    *conninfo: str,
    **arguments: Any,
) -> AsyncConnection:
    """A connection to a server whose name was looked up in a thread of ours.

    psycopg itself has the event loop look it up, in threads that handlers may hold for as long as they like.
    """
    addresses = await in_a_thread(partial(_addresses, arguments))
    connection = await AsyncConnection.connect(*conninfo, **(arguments | addresses))
    connection.longest = longest
    return connection


def _addresses(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Where the servers are that are named, as arguments; nothing new where one has no address. Raises OperationalError."""
    attempts = conninfo_attempts(arguments)
    names = [name for name in ("host", "hostaddr", "port") if all(name in each for each in attempts)]
    return {name: ",".join(str(each[name]) for each in attempts) for name in names}


def allow(connection: sa.Connection, seconds: float) -> None:
    """Let this connection wait so long from now on."""
    driver: Any = connection.connection.driver_connection
    driver.longest = seconds
