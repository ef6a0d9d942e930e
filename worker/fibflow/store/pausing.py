"""Pausing what has a flag for it: a task type, a cron task, a worker. What a pause holds back is told where each is.

(A task is not paused by a flag: that is a status, and the story of control.py.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from fibflow.errors import NotFound
from fibflow.logs import Logger
from fibflow.store.database import Session


@dataclass(frozen=True, slots=True)
class Pausable:
    """A row that can be paused: which, what is missing if there is none, and what the log calls it and tells of it."""

    table: sa.Table
    named: sa.ColumnElement[bool]
    missing: NotFound
    word: str
    log: Logger
    told: Mapping[str, Any]
    also: Mapping[str, Any] = field(default_factory=dict)


def set_paused(session: Session, row: Pausable, paused: bool) -> None:
    """Hold it back, or let it go on. Raises NotFound."""
    change = sa.update(row.table).where(row.named).values(paused=paused, **row.also)
    if session.connection.execute(change).rowcount == 0:
        raise row.missing
    session.after(row.log.info, f"{row.word}_{'paused' if paused else 'resumed'}", **row.told)
