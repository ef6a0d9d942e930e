"""What others hold: the endings that would have to wait for another transaction, found without waiting for it.

A transaction may stand still with its locks: its process was stopped, its network is silent, a person looks at rows. It
keeps them until the server gives it up. Whoever ends many attempts at once must not wait so long for one of them, so it
ends those that wait for nobody and leaves the others for later. An ending needs its task's row, and one that is for good
also its parent's, to be counted off it, and its cron task's, to pause that.

SQLite has one writer and no rows that are locked: there, nothing is held once a transaction has begun.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from fibflow.model import FINAL, Status
from fibflow.store.database import Session
from fibflow.store.ending import Ending
from fibflow.store.tables import cron_task, task


def unheld(session: Session, endings: Sequence[Ending]) -> list[Ending]:
    """The endings that wait for nobody; what they need is locked until the transaction ends."""
    if not session.postgresql or not endings:
        return list(endings)
    rows = {row.id: row for row in session.connection.execute(NEEDED, {"ids": [ending.task_id for ending in endings]})}
    found = [(ending, rows[ending.task_id]) for ending in endings if ending.task_id in rows]
    parents = {ending.task_id: row.parent for ending, row in found if ending.next.status in FINAL and row.parent}
    crons = {ending.task_id: row.cron_id for ending, row in found if ending.next.status is FAILED and row.cron_id}
    free_tasks = _locked(session, task, {*rows, *parents.values()})
    free_crons = _locked(session, cron_task, set(crons.values()))
    held = {*rows} - free_tasks
    held |= {task_id for task_id, parent in parents.items() if parent not in free_tasks}
    held |= {task_id for task_id, cron_id in crons.items() if cron_id not in free_crons}
    return [ending for ending in endings if ending.task_id not in held]


FAILED = Status.PERMANENTLY_FAILED
_parent = task.alias("parent")
NEEDED = (
    sa.select(task.c.id, task.c.cron_id, _parent.c.id.label("parent"))
    .outerjoin(_parent, _parent.c.id == task.c.parent_id)
    .where(task.c.id.in_(sa.bindparam("ids", expanding=True)))
)
"""Tasks that are not final, and their parents and cron tasks, as far as there are any."""


def _locked(session: Session, table: sa.Table, ids: Collection[int]) -> set[int]:
    """Which of these rows nobody else holds; this transaction holds them now."""
    if not ids:
        return set()
    query = sa.select(table.c.id).where(table.c.id.in_(ids)).order_by(table.c.id.desc())
    return set(session.connection.execute(query.with_for_update(skip_locked=True)).scalars())
