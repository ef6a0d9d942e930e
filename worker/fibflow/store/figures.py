"""How many tasks of each type wait, run and have failed for good: what a TaskType's status and the metrics tell.

To count is to read all tasks that are not final, so who asks again and again counts now and then (`counts`) and passes on
what was counted; what else is told of a type is as of now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from fibflow.store.database import Session, read
from fibflow.store.synced import Name
from fibflow.store.tables import cron_task, task, task_final, task_type, worker


@dataclass(frozen=True, slots=True)
class TypeFigures:
    """Counts of a type's tasks, and since when the oldest of those that are due waits (microseconds)."""

    pending: int = 0
    running: int = 0
    failed: int = 0
    oldest_pending: int | None = None
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A task type and its figures. `resource` is the TaskType that it has, if any; `held_back`: by a person or a manifest."""

    namespace: str
    type: str
    resource: str | None
    figures: TypeFigures
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """By type: how many tasks are in a state and since when the first that is due has been; how many have failed for good.

    By its name, not its id, which a database that was made anew gives to another.
    """

    states: Mapping[tuple[Name, str], tuple[int, int | None]] = field(default_factory=dict)
    failed: Mapping[Name, int] = field(default_factory=dict)

    def figures(self, type_: Name, paused: bool) -> TypeFigures:
        """Those of a type. Where no worker is, what is due stays scheduled; it waits all the same."""
        ready, scheduled, running = (self.states.get((type_, state), (0, None)) for state in COUNTED)
        oldest = min((due for _, due in (ready, scheduled) if due is not None), default=None)
        return TypeFigures(ready[0] + scheduled[0], running[0], self.failed.get(type_, 0), oldest, paused)


COUNTED = ("ready", "scheduled", "running")


@read
def counts(session: Session) -> Counts:
    """What is counted of all types; it takes the longer the more tasks there are."""
    states, failed = _by_state(session), _failed(session)
    found = session.connection.execute(sa.select(task_type.c.id, task_type.c.namespace, task_type.c.name))
    names = {row.id: Name(row.namespace, row.name) for row in found}
    return Counts(
        {(names[type_id], state): counted for (type_id, state), counted in states.items() if type_id in names},
        {names[type_id]: count for type_id, count in failed.items() if type_id in names},
    )


@read
def queues(session: Session, known: Counts | None = None) -> list[Queue]:
    """The figures of all types; `known`: counts as of lately."""
    counted = counts(session) if known is None else known
    columns = (task_type.c[name] for name in ("namespace", "name", "resource", "paused", "suspended"))
    return [_queue(row, counted) for row in session.connection.execute(sa.select(*columns))]


def _queue(row: Any, counted: Counts) -> Queue:
    figures = counted.figures(Name(row.namespace, row.name), row.paused)
    return Queue(row.namespace, row.name, row.resource, figures, row.paused or row.suspended)


def of_resources(found: Sequence[Queue]) -> dict[Name, TypeFigures]:
    """The figures of the types that TaskTypes have."""
    return {Name(queue.namespace, queue.resource): queue.figures for queue in found if queue.resource is not None}


def _by_state(session: Session) -> dict[tuple[int, str], tuple[int, int | None]]:
    due = sa.case((task.c.run_at <= session.now(), task.c.run_at))
    columns = (task.c.type_id, task.c.state, sa.func.count(), sa.func.min(due))
    found: Any = session.connection.execute(sa.select(*columns).group_by(task.c.type_id, task.c.state))
    return {(type_id, state): (count, oldest) for type_id, state, count, oldest in found}


def _failed(session: Session) -> dict[int, int]:
    failed = task_final.c.status == sa.text("'permanently_failed'")  # a literal, so that the partial index serves it
    query = sa.select(task_final.c.type_id, sa.func.count()).where(failed).group_by(task_final.c.type_id)
    return {type_id: count for type_id, count in session.connection.execute(query)}


@dataclass(frozen=True, slots=True)
class Rest:
    """What besides queues is looked at: the database's now, overdue cron tasks and since when, paused ones, workers."""

    now: int
    overdue: dict[tuple[str, str], int]
    paused: dict[str, int]
    workers: dict[str, tuple[int, int]]


@read
def rest(session: Session) -> Rest:
    """Cron tasks whose next instant has passed undecided, how many were paused by a failure, active workers and slots."""
    moment = session.now()
    held = sa.or_(cron_task.c.paused, cron_task.c.suspended)
    late = sa.select(cron_task.c.namespace, cron_task.c.name, cron_task.c.next_at).where(cron_task.c.next_at <= moment, ~held)
    paused = sa.select(cron_task.c.namespace, sa.func.count()).where(cron_task.c.paused_reason.is_not(None))
    active = sa.select(worker.c.namespace, sa.func.count(), sa.func.sum(worker.c.slots)).where(worker.c.status == "active")
    connection = session.connection
    return Rest(
        moment,
        {(namespace, name): at for namespace, name, at in connection.execute(late)},
        {namespace: count for namespace, count in connection.execute(paused.group_by(cron_task.c.namespace))},
        {namespace: (count, slots) for namespace, count, slots in connection.execute(active.group_by(worker.c.namespace))},
    )
