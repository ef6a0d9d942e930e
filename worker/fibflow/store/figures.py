"""How many tasks of each type wait, run and have failed for good: what a TaskType's status tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.store.database import Session, read
from fibflow.store.synced import Name
from fibflow.store.tables import task, task_final, task_type


@dataclass(frozen=True, slots=True)
class TypeFigures:
    """Counts of a type's tasks, and since when the oldest of those that are due waits (microseconds)."""

    pending: int = 0
    running: int = 0
    failed: int = 0
    oldest_pending: int | None = None
    paused: bool = False


@read
def type_figures(session: Session) -> dict[Name, TypeFigures]:
    """The figures of the types that TaskTypes have."""
    states = _by_state(session)
    failed = _failed(session)
    query = sa.select(task_type.c.id, task_type.c.namespace, task_type.c.resource, task_type.c.paused)
    return {
        Name(row.namespace, row.resource): TypeFigures(
            pending=sum(states.get((row.id, state), (0, None))[0] for state in ("ready", "scheduled")),
            running=states.get((row.id, "running"), (0, None))[0],
            failed=failed.get(row.id, 0),
            oldest_pending=states.get((row.id, "ready"), (0, None))[1],
            paused=row.paused,
        )
        for row in session.connection.execute(query.where(task_type.c.resource.is_not(None)))
    }


def _by_state(session: Session) -> dict[tuple[int, str], tuple[int, int]]:
    columns = (task.c.type_id, task.c.state, sa.func.count(), sa.func.min(task.c.run_at))
    found: Any = session.connection.execute(sa.select(*columns).group_by(task.c.type_id, task.c.state))
    return {(type_id, state): (count, oldest) for type_id, state, count, oldest in found}


def _failed(session: Session) -> dict[int, int]:
    failed = task_final.c.status == sa.text("'permanently_failed'")  # a literal, so that the partial index serves it
    query = sa.select(task_final.c.type_id, sa.func.count()).where(failed).group_by(task_final.c.type_id)
    return {type_id: count for type_id, count in session.connection.execute(query)}
