"""Listen: hear PostgreSQL's notifications on one channel for as long as the program lives.

The protocol. A connection of its own, in autocommit, LISTENs and waits. What was sent while it was not connected is
lost, so after every connect, the first one too, the listener hears "": look for yourself. A connection that was silent
for half a minute is asked for a sign of life, and its socket has keepalives, so a dead one is replaced too.
A lost connection is replaced after a random while, which grows as long as the server does not take it, so that a
thousand workers do not greet a restarted server at once.

A notification is a hint and never the truth; what it hints at, and what to do then, is not known here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from fibflow.store.database import Database
from fibflow.store.engines import KEEPALIVES
from fibflow.store.psycopg_connections import connected

LOST = (psycopg.Error, OSError)
SILENCE = 30.0
"""Seconds without a word after which the connection is asked for a sign of life."""
PATIENCE = 10.0
"""Seconds that an answer may take."""
CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "application_name": "fibflow listener",
    "connect_timeout": 5,
    **KEEPALIVES,
    "tcp_user_timeout": 10000,
}


class Listener:
    """Calls `heard` with the payload of every notification on `channel`, and with "" after every connect."""

    def __init__(self, database: Database, channel: str, heard: Callable[[str], None]) -> None:
        self._database = database
        self._arguments = {**database.url.get_dialect()().create_connect_args(database.url)[1], **CONNECTION}
        self._listen = SQL("LISTEN {}").format(Identifier(channel))
        self._heard = heard

    async def run(self) -> None:
        """Listen for ever; ends by being cancelled, or with what `heard` raises."""
        while True:
            connection = await self._connected()
            try:
                await self._hear(connection)
            except LOST:
                await asyncio.sleep(random.uniform(0, 0.5))
            finally:
                await connection.close()

    async def _connected(self) -> psycopg.AsyncConnection:
        """A connection that listens, whenever there can be one."""
        waits = AsyncRetrying(retry=retry_if_exception_type(LOST), wait=wait_random_exponential(0.2, max=10))
        return await waits(self._connect)

    async def _connect(self) -> psycopg.AsyncConnection:
        connection = await connected(self._database.in_a_thread, PATIENCE, **self._arguments)
        try:
            await connection.execute(self._listen)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _hear(self, connection: psycopg.AsyncConnection) -> None:
        """Hear until the connection is lost. Raises what tells of the loss."""
        self._heard("")
        while True:
            async with aclosing(connection.notifies(timeout=SILENCE)) as notifications:
                async for notification in notifications:
                    self._heard(notification.payload)
            await connection.execute("SELECT 1")
