"""What has become of tasks, hot or final."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from fibflow.store.database import Session, read
from fibflow.store.tables import task, task_final


@read
def states(session: Session, tasks: Sequence[int], relatives: bool = False) -> list[tuple[int, str]]:
    """Tasks, or their whole workflows, from the highest id to the lowest."""
    found: list[tuple[int, str]] = []
    roots = [row[0] for table in (task, task_final) for row in session.connection.execute(_roots(table, tasks))]
    for table, state in ((task, task.c.state), (task_final, task_final.c.status)):
        named = in_workflows(table, roots) if relatives else table.c.id.in_(tasks)
        found += [(row[0], row[1]) for row in session.connection.execute(sa.select(table.c.id, state).where(named))]
    return sorted(found, reverse=True)


def _roots(table: sa.Table, tasks: Sequence[int]) -> sa.Select[Any]:
    return sa.select(sa.func.coalesce(table.c.root_id, table.c.id)).where(table.c.id.in_(tasks))


def in_workflows(table: sa.Table, roots: Sequence[int]) -> sa.ColumnElement[bool]:
    """The roots, and everything below them."""
    return sa.or_(table.c.id.in_(roots), table.c.root_id.in_(roots))
