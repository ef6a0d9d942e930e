"""Stale writes: refused, kept as one record per (task, fence, verb), and counted."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fibflow.metrics import STALE_WRITES
from fibflow.store.database import Session
from fibflow.store.tables import stale_write


def record_stale(session: Session, task_id: int, fence: int, worker_id: int, verb: str) -> None:
    """Remember that a write was refused; only the first of its kind makes a row, the rest are counted on it."""
    dialect = postgresql if session.postgresql else sqlite
    row = {"task_id": task_id, "fence": fence, "verb": verb, "worker_id": worker_id, "at": session.now(), "count": 1}
    insert = dialect.insert(stale_write).values(row)
    key = ["task_id", "fence", "verb"]
    session.connection.execute(insert.on_conflict_do_update(index_elements=key, set_={"count": stale_write.c.count + 1}))
    session.after(STALE_WRITES.labels(verb=verb).inc)


def stale_writes(session: Session) -> int:
    """How many stale writes were refused, ever."""
    total = sa.select(sa.func.coalesce(sa.func.sum(stale_write.c.count), 0))
    return int(session.connection.execute(total).scalar_one())
