"""A task and what is below it, a level of the tree at a time: a wide workflow costs few statements.

How a row becomes a task is the story of snapshot.py. Nothing here writes or locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from fibflow import encoding
from fibflow.model import Task
from fibflow.store.database import Session, read
from fibflow.store.paging import LONGEST_PAGE
from fibflow.store.snapshot import TABLE_NAMED, branch, one, to_task


@dataclass(frozen=True, slots=True)
class Subtree:
    """A task and those below it, by id; and how many children of these were left out."""

    tasks: Sequence[Task]
    left_out: int


@read
def subtree(session: Session, task_id: int, limit: int = 1000) -> Subtree:
    """A task and what is below it, at most `limit` tasks, of the upper levels first. Raises NotFound, InvalidInput."""
    encoding.number(limit, "limit", 1, LONGEST_PAGE, whole=True)
    level = [one(session, task_id)]
    found, left_out = list(level), 0
    while level:
        parents = [task.id for task in level]
        level = _children(session, parents, limit - len(found))
        found += level
        if len(found) == limit:
            left_out += max(0, _count(session, parents) - len(level))  # some may be pruned in between
    return Subtree(sorted(found, key=lambda task: task.id), left_out)


def _children(session: Session, parents: Sequence[int], most: int) -> list[Task]:
    """The first children of some tasks, by id."""
    if most == 0:
        return []
    heads = []
    for kind, table in TABLE_NAMED.items():
        below = branch(session.namespace, kind).where(table.c.parent_id.in_(parents))
        heads.append(sa.select(below.order_by(table.c.id).limit(most).subquery(kind)))
    rows = sa.union_all(*heads).subquery("rows")
    return [to_task(row) for row in session.connection.execute(sa.select(rows).order_by(rows.c.id).limit(most))]


def _count(session: Session, parents: Sequence[int]) -> int:
    """How many children some tasks have."""
    counts = [sa.select(sa.func.count()).where(table.c.parent_id.in_(parents)) for table in TABLE_NAMED.values()]
    return sum(session.connection.execute(sa.union_all(*counts)).scalars())
