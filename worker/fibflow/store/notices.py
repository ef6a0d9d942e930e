"""Notices: what wakes workers on PostgreSQL, and how often one type is told of (docs/decisions/0006-notices.md).

A notice is a hint and never the truth; who hears it is the story of listen.py.
"""

from __future__ import annotations

import sqlalchemy as sa

from fibflow.store.database import Session

CHANNEL = "fibflow"
"""What workers LISTEN to; the payload is a task type's id, or `w` and the id of a worker that lost an attempt."""

WAKE_INTERVAL = 0.005
"""Seconds in which one process tells of one type once; a worker that was told looks again a little later."""


def wake(session: Session, payload: str) -> None:
    """Tell workers something when this transaction commits (PostgreSQL; SQLite's workers poll)."""
    if session.postgresql:
        session.connection.execute(sa.select(sa.func.pg_notify(CHANNEL, payload)))
