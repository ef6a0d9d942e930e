"""A cache of connections for single statements: they are kept from one to the next instead of going back to their pool.

Checking a connection out, wrapping it and returning it took a client as long as all the rest of its part of an enqueue
(docs/decisions/0005-turns.md). The pool still makes, counts and renews connections; what they are used for is not known here.
"""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

LONGEST = 60
"""Seconds that a connection is kept, or so: the plans that it keeps may be older than what the tables hold."""


class ConnectionCache:
    """Lends the connection that came back last, else one of the engine's pool.

    To the pool goes back whose block failed, what is older than `longest` seconds, what comes while others wait there, and
    what is more than `most`. When one was lost, all that wait are given up: their server may have gone.
    """

    def __init__(self, engine: sa.Engine, most: int, longest: float = LONGEST) -> None:
        self.engine = engine
        self.most = most
        self.longest = longest
        self._lock = threading.Lock()
        self._idle: list[Loan] = []
        self._asking = 0
        self._era = 0

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
            era, connection = self._era, self.engine.connect()
            made_at = connection.info.setdefault("made_at", time.monotonic())
            return Loan(self, connection, made_at + self.longest, era)
        finally:
            with self._lock:
                self._asking -= 1

    def take_back(self, loan: Loan, failed: bool) -> None:
        """What is lent again, or goes back to the pool."""
        lost = loan.connection.invalidated
        with self._lock:
            current = loan.era == self._era
            wanted = len(self._idle) < self.most and not self._asking
            keep = current and wanted and not failed
            if keep:
                self._idle.append(loan)
        if not keep:
            loan.close(for_good=not current)
        if lost:
            self.dispose()

    def dispose(self) -> None:
        """Close the connections that are not lent, and the others when they come back."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._era += 1
        for loan in idle:
            loan.connection.close()
        self.engine.dispose()


class Loan:
    """A connection for a block, and who lent it."""

    __slots__ = ("connection", "era", "lender", "until")

    def __init__(self, lender: ConnectionCache, connection: sa.Connection, until: float, era: int) -> None:
        self.lender = lender
        self.connection = connection
        self.until = until
        self.era = era

    def close(self, for_good: bool) -> None:
        """Give it back to its pool, or, where that is no more, close it."""
        if for_good and not self.connection.invalidated:
            self.connection.invalidate()
        self.connection.close()

    def __enter__(self) -> sa.Connection:
        return self.connection

    def __exit__(self, kind: type[BaseException] | None, *_failure: object) -> None:
        self.lender.take_back(self, failed=kind is not None)
