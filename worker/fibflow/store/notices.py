"""Notices: what wakes workers, and how often one type is told of (docs/decisions/0006-notices.md).

A notice is a hint and never the truth. PostgreSQL tells every process; who hears it there is the story of listen.py. With
SQLite a process tells itself, and the others poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import sqlalchemy as sa

from fibflow.store.database import Session
from fibflow.store.session import Wakes

CHANNEL = "fibflow"
"""What workers LISTEN to; the payload is a task type's id, or `w` and the id of a worker that lost an attempt."""

WAKE_INTERVAL = 0.005
"""Seconds in which one process tells of one type once; a worker that was told looks again a little later."""


def wake(session: Session, payload: str) -> None:
    """Tell workers something when this transaction commits."""
    if session.postgresql:
        session.connection.execute(sa.select(sa.func.pg_notify(CHANNEL, payload)))
    else:
        session.after(session.wakes.tell, payload)


async def overhear(wakes: Wakes, heard: Callable[[str], None]) -> None:
    """Hear in this event loop what any thread of this process tells (SQLite). Ends by being cancelled."""
    loop = asyncio.get_running_loop()

    def pass_on(told: str) -> None:
        with suppress(RuntimeError):  # the loop was closed just now
            loop.call_soon_threadsafe(heard, told)

    wakes.ears.append(pass_on)
    try:
        await asyncio.Event().wait()
    finally:
        wakes.ears.remove(pass_on)
