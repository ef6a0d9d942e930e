"""Removing whole workflows, one bounded batch at a time, inside the caller's transaction.

A batch locks the roots that may go, then takes workflows by root id for as long as they fit; a workflow that is larger
than a batch goes alone, over several batches: its youngest tasks first (a child's id is above its parent's), its root
last, so that the next batch finds it again. Locked rows are skipped, nothing is waited for, and the rows that claims
look at are not touched. A root goes only when nothing is below it any more: a task that is being redriven meanwhile
keeps it.

Which workflows are to go, and when, is the story of retention.py.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.store.database import Session
from fibflow.store.paging import Where
from fibflow.store.tables import attempt, event, stale_write, task, task_final, task_type


@dataclass(frozen=True, slots=True)
class Source:
    """A table, which of its rows have ended, and since when (microseconds)."""

    table: sa.Table
    ended: sa.ColumnElement[bool]
    since: sa.ColumnElement[int]


FINAL_TASKS = Source(task_final, sa.true(), task_final.c.finished_at)
PAUSED_TASKS = Source(
    task, task.c.state == sa.text("'paused'"), sa.func.coalesce(task.c.last_event_at, task.c.created_at)
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The roots of a source that may go."""

    source: Source
    where: Where


@dataclass(frozen=True, slots=True)
class Removed:
    """How much one batch removed, and whether there may be more."""

    workflows: int = 0
    tasks: int = 0
    attempts: int = 0
    events: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """The ids that fit a batch, and whether something did not."""

    below: list[int]
    roots: list[int]
    more: bool


def remove(session: Session, choices: Sequence[Choice], cutoff: int | None, limit: int) -> Removed:
    """Remove at most `limit` tasks of workflows in which all ended by the cutoff, and what is told of them."""
    sources = [choice.source for choice in choices]
    found = [_roots(session, choice, sources, cutoff, limit) for choice in choices]
    roots = list(heapq.merge(*found))[:limit]
    batch = share(roots, _below(session, sources, roots, limit + 1), limit)
    below = [gone for source in sources for gone in _delete(session, source, source.table.c.id.in_(batch.below))]
    above = [gone for source in sources for gone in _delete_roots(session, source, batch.roots)]
    gone = below + above
    return Removed(
        workflows=len(above),
        tasks=len(gone),
        attempts=_forget(session, attempt, gone),
        events=_forget(session, event, gone) + _forget(session, stale_write, gone),
        more=batch.more or len(roots) == limit,
    )


def share(roots: Sequence[int], below: Iterable[tuple[int, int]], limit: int) -> Share:
    """What fits a batch of `limit` tasks, workflow by workflow. `below`: (root, task), at most one too many. Pure."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    seen = 0
    for root_id, task_id in below:
        members[root_id].append(task_id)
        seen += 1
    cut = max(members, default=None) if seen > limit else None
    taken: list[int] = []
    whole: list[int] = []
    for root_id in roots:
        fits = len(taken) + len(whole) + len(members[root_id]) + 1 <= limit
        if not fits or (cut is not None and root_id >= cut):
            return Share(taken if whole else members[root_id][:limit], whole, True)
        taken += members[root_id]
        whole.append(root_id)
    return Share(taken, whole, False)


def _roots(
    session: Session, choice: Choice, sources: Sequence[Source], cutoff: int | None, limit: int
) -> Sequence[int]:
    """Roots in which nothing goes on and nothing ended after the cutoff, locked; the lowest ids."""
    table = choice.source.table
    of_namespace = sa.select(task_type.c.id).where(task_type.c.namespace == session.namespace)
    query = (
        sa.select(table.c.id)
        .where(table.c.parent_id.is_(None), table.c.type_id.in_(of_namespace), choice.source.ended, *choice.where)
        .where(*_since(choice.source, cutoff))
        .where(*(~late for late in _hindrances(table, sources, cutoff)))
        .order_by(table.c.id)
        .limit(limit)
        .with_for_update(of=table, skip_locked=True)
    )
    return session.connection.execute(query).scalars().all()


def _since(source: Source, cutoff: int | None) -> Where:
    return [] if cutoff is None else [source.since <= cutoff]


def _hindrances(root: sa.Table, sources: Sequence[Source], cutoff: int | None) -> Where:
    """What keeps a workflow: a task in it that is not ended, or that ended after the cutoff."""
    hot, final = task.alias("hot"), task_final.alias("final")
    going_on = sa.select(hot.c.id).where(hot.c.root_id == root.c.id)
    if PAUSED_TASKS in sources:
        recent = sa.false() if cutoff is None else sa.func.coalesce(hot.c.last_event_at, hot.c.created_at) > cutoff
        going_on = going_on.where(sa.or_(hot.c.state != sa.text("'paused'"), recent))
    if cutoff is None:
        return [sa.exists(going_on)]
    ended_late = sa.select(final.c.id).where(final.c.root_id == root.c.id, final.c.finished_at > cutoff)
    return [sa.exists(going_on), sa.exists(ended_late)]


def _below(session: Session, sources: Sequence[Source], roots: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """(root, task) below the roots, locked: root by root, in each the youngest first."""
    found = []
    for source in sources:
        columns = source.table.c
        query = (
            sa.select(columns.root_id, columns.id)
            .where(columns.root_id.in_(roots), source.ended)
            .order_by(columns.root_id, columns.id.desc())
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found.append([(row.root_id, row.id) for row in session.connection.execute(query)])
    return list(heapq.merge(*found, key=lambda pair: (pair[0], -pair[1])))[:limit]


def _delete(session: Session, source: Source, *where: sa.ColumnElement[bool]) -> Sequence[int]:
    gone = sa.delete(source.table).where(*where, source.ended).returning(source.table.c.id)
    return session.connection.execute(gone).scalars().all()


def _delete_roots(session: Session, source: Source, roots: Sequence[int]) -> Sequence[int]:
    """The roots that have nothing below them, as this statement sees it."""
    root = source.table
    left: list[Any] = []
    for table in (task, task_final):
        child = table.alias("child")
        left.append(~sa.exists(sa.select(child.c.id).where(child.c.root_id == root.c.id)))
    return _delete(session, source, root.c.id.in_(roots), *left)


def _forget(session: Session, table: sa.Table, tasks: Sequence[int]) -> int:
    return session.connection.execute(sa.delete(table).where(table.c.task_id.in_(tasks))).rowcount
