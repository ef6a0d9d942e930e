"""Which workers of a pool are to go: idle ones only, marked so that they take nothing new, and unmarked if demand returns.

A mark locks the worker's row against claims (claim.py holds it FOR KEY SHARE), and is set where nothing runs: so a worker
that is marked is idle, and stays so until the mark is taken back. Only a leader marks (installation.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from fibflow.store.database import Session, read, write
from fibflow.store.installation import Lead, check_lead
from fibflow.store.synced import Name
from fibflow.store.tables import task, worker


@dataclass(frozen=True, slots=True)
class Marked:
    """A worker that is marked, and its pod."""

    worker_id: int
    pod: str
    pod_uid: str


@read
def marked(session: Session, namespace: str, pool: str) -> list[Marked]:
    """The workers of a pool that are marked, by id."""
    query = sa.select(worker.c.id, worker.c.pod_id, worker.c.pod_uid).where(_of_pool(namespace, pool), worker.c.draining)
    return [Marked(*row) for row in session.connection.execute(query.order_by(worker.c.id))]


@read
def pools_marked(session: Session) -> set[Name]:
    """The pools of which workers are marked."""
    here = sa.and_(worker.c.pool.is_not(None), worker.c.pod_uid.is_not(None), worker.c.status == sa.text("'active'"))
    query = sa.select(worker.c.namespace, worker.c.pool).where(here, worker.c.draining).distinct()
    return {Name(*row) for row in session.connection.execute(query)}


@read
def marks_of(session: Session, pod_uids: Collection[str]) -> dict[str, bool]:
    """Of these pods those whose worker holds a lease, and whether it is marked."""
    query = sa.select(worker.c.pod_uid, worker.c.draining).where(worker.c.status == sa.text("'active'"))
    return {uid: mark for uid, mark in session.connection.execute(query.where(worker.c.pod_uid.in_(sorted(pod_uids))))}


@write
def mark_idle(session: Session, lead: Lead, namespace: str, pool: str, count: int) -> int:
    """Mark at most so many workers that run nothing, the newest first; how many. Raises LeadLost."""
    check_lead(session, lead)
    query = sa.select(worker.c.id).where(_of_pool(namespace, pool), ~worker.c.draining)
    ids = session.connection.execute(query.order_by(worker.c.id.desc()).with_for_update()).scalars().all()
    busy = set(session.connection.execute(sa.select(task.c.worker_id).where(task.c.worker_id.in_(ids)).distinct()).scalars())
    chosen = [worker_id for worker_id in ids if worker_id not in busy][:count]
    if chosen:
        session.connection.execute(sa.update(worker).where(worker.c.id.in_(chosen)).values(draining=True))
    return len(chosen)


@write
def unmark(session: Session, lead: Lead, worker_ids: Collection[int]) -> None:
    """Let these workers claim again. Raises LeadLost."""
    check_lead(session, lead)
    chosen = sa.and_(worker.c.id.in_(sorted(worker_ids)), worker.c.draining)
    session.connection.execute(sa.update(worker).where(chosen).values(draining=False))


def _of_pool(namespace: str, pool: str) -> sa.ColumnElement[bool]:
    here = sa.and_(worker.c.namespace == namespace, worker.c.pool == pool, worker.c.pod_uid.is_not(None))
    return sa.and_(here, worker.c.status == sa.text("'active'"))
