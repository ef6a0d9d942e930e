"""PostgreSQL connections that wait for an answer only so long, and are lost then.

A server ends what takes too long, and the network's limits end what is not taken (engines.py). But a server that is frozen,
or a pooler whose own server is gone, takes every word and never answers: only the one who asked can end that. Whoever
asks differently, such as a migration, says so by `allow`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout

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
                self.pgconn.finish()
            raise


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """For the event loop."""

    longest: float | None = None

    async def wait(self, gen: PQGen[RV], interval: float = WAKES, timeout: float | None = None) -> RV:
        try:
            return await super().wait(gen, interval, self.longest if timeout is None else timeout)
        except _WaitTimeout:
            if timeout is None:
                self.pgconn.finish()
            raise


def waiting(engine: sa.Engine, longest: float | None) -> sa.Engine:
    """The engine, whose connections wait no longer than that."""

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: object, record: object, conninfo: list[str], arguments: dict[str, Any]) -> Connection:
        connection = Connection.connect(*conninfo, **arguments)
        connection.longest = longest
        return connection

    return engine


def allow(connection: sa.Connection, seconds: float) -> None:
    """Let this connection wait so long from now on."""
    driver: Any = connection.connection.driver_connection
    driver.longest = seconds
