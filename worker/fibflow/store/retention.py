"""Retention: workflows that ended long ago go, as wholes; also by hand, by filter. And what else is of the past: workers,
ticks, and what was written late for tasks that had gone.

Every call is a batch: bounded, a transaction of its own, and it tells whether another one would find more. Batches add
up. How a workflow goes is the story of removal.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import InvalidInput
from fibflow.metrics import PRUNED
from fibflow.model import FINAL, Status
from fibflow.store.clock import micros
from fibflow.store.database import Session, write
from fibflow.store.paging import LONGEST_PAGE, equal, member, optional_member
from fibflow.store.removal import FINAL_TASKS, PAUSED_TASKS, Choice, remove
from fibflow.store.snapshot import TABLE_NAMED, branch, kinds_of, status_is
from fibflow.store.tables import cron_task, cron_tick, stale_write, task, task_final, task_type, worker

PRUNABLE = (Status.COMPLETED, Status.PERMANENTLY_FAILED, Status.CANCELLED)
A_DAY = 24 * 3600.0
AN_HOUR = 3600.0
FORGOTTEN = 1000
"""Workers, ticks, and refused writes, in one call."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What batches deleted, and whether another may find more."""

    workflows: int = 0
    tasks: int = 0
    attempts: int = 0
    events: int = 0
    more: bool = False
    workers: int = 0
    ticks: int = 0

    def __add__(self, following: Pruned) -> Pruned:
        counts = ("workflows", "tasks", "attempts", "events", "workers", "ticks")
        total = {name: getattr(self, name) + getattr(following, name) for name in counts}
        return Pruned(**total, more=following.more)


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many tasks batches deleted, how many that match they left, and whether another may delete more.

    What is left is open, or belongs to a workflow that is, or whose root does not match.
    """

    tasks: int
    left: int
    more: bool

    def __add__(self, following: Deleted) -> Deleted:
        return Deleted(self.tasks + following.tasks, following.left, following.more)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many workers, ticks, and events of tasks that had gone, one call deleted."""

    workers: int = 0
    ticks: int = 0
    events: int = 0


@write
def prune(
    session: Session, *, age: float | None = None, statuses: Iterable[Status | str] = PRUNABLE, limit: int = 500
) -> Pruned:
    """Delete the namespace's workflows whose root has one of the statuses and whose last task ended `age` seconds ago, or more.

    A workflow goes as a whole, with its events and attempts, once nothing in it is open; a paused task is open unless "paused"
    is among the statuses. Without an age: a day, in memory an hour. Workers and ticks of as long ago go too, and what was
    written late for tasks that had gone.

    This is one batch, of at most `limit` tasks: its counts, and whether there is `more`. A client's `prune` goes on to the end
    and adds the batches up. Raises InvalidInput.
    """
    age = _usual_age(session) if age is None else encoding.number(age, "age", 0.001, encoding.LONGEST_DURATION)
    encoding.number(limit, "limit", 1, LONGEST_PAGE, whole=True)
    choices = _choices(statuses)
    gone = remove(session, choices, session.now() - (micros(age) or 0), limit)
    session.after(PRUNED.inc, gone.tasks)
    past = Forgotten() if gone.more else forget(session, age)
    more = gone.more or FORGOTTEN in (past.workers, past.ticks, past.events)
    return Pruned(gone.workflows, gone.tasks, gone.attempts, gone.events + past.events, more, past.workers, past.ticks)


def _usual_age(session: Session) -> float:
    in_memory = not session.postgresql and session.connection.engine.url.database in (None, "", ":memory:")
    return AN_HOUR if in_memory else A_DAY


def _choices(statuses: Iterable[Status | str]) -> list[Choice]:
    """The roots that may go by their status."""
    chosen = check_statuses(statuses)
    final = task_final.c.status.in_(sorted(status.value for status in chosen & FINAL))
    paused = [Choice(PAUSED_TASKS, [])] if Status.PAUSED in chosen else []
    return [Choice(FINAL_TASKS, [final]), *paused]


def check_statuses(statuses: object, field: str = "statuses") -> set[Status]:
    """The statuses whose workflows may go. Raises InvalidInput for none, and for others than final ones and paused."""
    if not isinstance(statuses, Iterable) or isinstance(statuses, str):
        raise InvalidInput(field, statuses, "is no list; name the statuses")
    chosen = {member(Status, status, field) for status in statuses}
    if not chosen:
        raise InvalidInput(field, list(statuses), "is empty; name at least one status")
    if wrong := sorted(chosen - FINAL - {Status.PAUSED}):
        raise InvalidInput(field, wrong[0].value, "is not a status to prune; use final ones, or paused")
    return chosen


@write
def delete(
    session: Session,
    *,
    type: str | None = None,
    tag: str | None = None,
    status: Status | str | None = None,
    limit: int = LONGEST_PAGE,
) -> Deleted:
    """Delete whole final workflows whose root matches (no filter matches all): one batch, of at most `limit` tasks.

    A client's `delete` goes on to the end and adds the batches up. Raises InvalidInput.
    """
    encoding.optional_text(type, "type")
    encoding.optional_text(tag, "tag")
    encoding.number(limit, "limit", 1, LONGEST_PAGE, whole=True)
    chosen = optional_member(Status, status, "status")
    where = equal(task_final.c.tag, tag) + equal(task_final.c.status, None if chosen is None else chosen.value)
    if type is not None:
        named = sa.select(task_type.c.id).where(task_type.c.namespace == session.namespace, task_type.c.name == type)
        where.append(task_final.c.type_id.in_(named))
    gone = remove(session, [Choice(FINAL_TASKS, where)], None, limit)
    return Deleted(gone.tasks, _matching(session, type, tag, chosen), gone.more)


def _matching(session: Session, type: str | None, tag: str | None, status: Status | None) -> int:
    """How many tasks match, roots or not, ended or not."""
    counts = []
    for kind in kinds_of(status):
        where = equal(TABLE_NAMED[kind].c.tag, tag) + equal(task_type.c.name, type)
        where += [] if status is None else [status_is(kind, status)]
        rows = branch(session.namespace, kind, ("id",)).where(*where).subquery(kind)
        counts.append(sa.select(sa.func.count()).select_from(rows).scalar_subquery())
    return sum(session.connection.execute(sa.select(*counts)).one())


@write
def forget(session: Session, age: float = A_DAY) -> Forgotten:
    """Delete workers that ended, ticks that were decided, and writes that were refused, at least `age` seconds ago.

    A bounded number of each. A worker that still owns a running task stays, and so do the latest tick of every cron task,
    and the refused writes of a task that exists: they go with it. Raises InvalidInput.
    """
    encoding.number(age, "age", 0, encoding.LONGEST_DURATION)
    cutoff = session.now() - (micros(age) or 0)
    past = [
        sa.delete(worker).where(worker.c.id.in_(_past_workers(session, cutoff))),
        sa.delete(cron_tick).where(sa.tuple_(cron_tick.c.cron_id, cron_tick.c.tick).in_(_past_ticks(session, cutoff))),
        sa.delete(stale_write).where(sa.tuple_(*stale_write.primary_key).in_(_left_behind(cutoff))),
    ]
    return Forgotten(*(session.connection.execute(each).rowcount for each in past))


def _past_workers(session: Session, cutoff: int) -> sa.Select[Any]:
    owned = sa.select(task.c.id).where(task.c.worker_id == worker.c.id, task.c.state == sa.text("'running'"))
    past = sa.and_(worker.c.namespace == session.namespace, worker.c.status != "active", worker.c.ended_at <= cutoff)
    query = sa.select(worker.c.id).where(past, ~sa.exists(owned)).order_by(worker.c.id).limit(FORGOTTEN)
    return query.with_for_update(skip_locked=True)


def _past_ticks(session: Session, cutoff: int) -> sa.Select[Any]:
    later, past = cron_tick.alias("later"), cron_tick.alias("past")
    latest = sa.select(sa.func.max(later.c.tick)).where(later.c.cron_id == past.c.cron_id).scalar_subquery()
    return (
        sa.select(past.c.cron_id, past.c.tick)
        .join(cron_task, cron_task.c.id == past.c.cron_id)
        .where(cron_task.c.namespace == session.namespace, past.c.decided_at <= cutoff, past.c.tick < latest)
        .order_by(past.c.cron_id, past.c.tick)
        .limit(FORGOTTEN)
    )


def _left_behind(cutoff: int) -> sa.Select[Any]:
    """Writes for attempts of tasks that had been deleted: nothing else names them any more."""
    gone = [~sa.exists(sa.select(table.c.id).where(table.c.id == stale_write.c.task_id)) for table in (task, task_final)]
    query = sa.select(*stale_write.primary_key).where(stale_write.c.at <= cutoff, *gone)
    return query.order_by(*stale_write.primary_key).limit(FORGOTTEN).with_for_update(of=stale_write, skip_locked=True)
