"""Connections for single statements that stay at hand between them, instead of going back to their pool each time.

Checking a connection out, wrapping it and returning it took a client as long as all the rest of its part of an enqueue
(docs/decisions/0005-turns.md). The pool still makes, counts and renews connections; what they are used for is not known here.
"""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

LONGEST = 60
"""Seconds that a connection is kept, or so: the plans that it keeps may be older than what the tables hold."""


class AtHand:
    """Lends the connection that came back last, else one of the engine's pool.

    To the pool goes back whose block failed, what is older than `longest` seconds, and what comes while others wait there.
    """

    def __init__(self, engine: sa.Engine, longest: float = LONGEST) -> None:
        self.engine = engine
        self.longest = longest
        self._lock = threading.Lock()
        self._idle: list[Loan] = []
        self._asking = 0

    def connect(self) -> Loan:
        """A connection for one `with` block. Raises what the engine's `connect` raises."""
        with self._lock:
            loan = self._idle.pop() if self._idle else None
            self._asking += loan is None
        if loan is None:
            return self._another()
        if time.monotonic() < loan.until:
            return loan
        loan.connection.close()
        return self.connect()

    def _another(self) -> Loan:
        try:
            return Loan(self, self.engine.connect(), time.monotonic() + self.longest)
        finally:
            with self._lock:
                self._asking -= 1

    def take_back(self, loan: Loan, failed: bool) -> None:
        """What is lent again, or goes back to the pool."""
        with self._lock:
            keep = not failed and not self._asking
            if keep:
                self._idle.append(loan)
        if not keep:
            loan.connection.close()

    def dispose(self) -> None:
        """Close the connections that are not lent."""
        with self._lock:
            idle, self._idle = self._idle, []
        for loan in idle:
            loan.connection.close()
        self.engine.dispose()


class Loan:
    """A connection for a block, and who lent it."""

    __slots__ = ("connection", "lender", "until")

    def __init__(self, lender: AtHand, connection: sa.Connection, until: float) -> None:
        self.lender = lender
        self.connection = connection
        self.until = until

    def __enter__(self) -> sa.Connection:
        return self.connection

    def __exit__(self, kind: type[BaseException] | None, *_failure: object) -> None:
        self.lender.take_back(self, failed=kind is not None)
