"""Connections for single statements that stay at hand between them, instead of going back to their pool each time.

Checking a connection out, wrapping it and returning it took a client as long as all the rest of its part of an enqueue
(docs/decisions/0005-turns.md). The pool still makes, counts and renews connections; what they are used for is not known here.
"""

from __future__ import annotations

import time

import sqlalchemy as sa

LONGEST = 60
"""Seconds that a connection is kept, or so: the plans that it keeps may be older than what the tables hold."""


class AtHand:
    """Lends the connection that came back last, else one of the engine's pool.

    One whose block failed goes back to the pool, and so does one that is older than `longest` seconds.
    """

    def __init__(self, engine: sa.Engine, longest: float = LONGEST) -> None:
        self.engine = engine
        self.longest = longest
        self._idle: list[Loan] = []

    def connect(self) -> Loan:
        """A connection for one `with` block. Raises what the engine's `connect` raises."""
        while self._idle:
            try:
                loan = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() < loan.until:
                return loan
            loan.connection.close()
        return Loan(self.engine.connect(), time.monotonic() + self.longest, self._idle)

    def dispose(self) -> None:
        """Close the connections that are not lent."""
        while self._idle:
            self._idle.pop().connection.close()
        self.engine.dispose()


class Loan:
    """A connection, and where it comes back to."""

    __slots__ = ("connection", "idle", "until")

    def __init__(self, connection: sa.Connection, until: float, idle: list[Loan]) -> None:
        self.connection = connection
        self.until = until
        self.idle = idle

    def __enter__(self) -> sa.Connection:
        return self.connection

    def __exit__(self, kind: type[BaseException] | None, *_failure: object) -> None:
        if kind is None:
            self.idle.append(self)
        else:
            self.connection.close()
