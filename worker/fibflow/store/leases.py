"""Leases: a worker's right to hold tasks, and how it passes on.

Protocol. A worker registers under a new id; in the same transaction every other active worker of its identity
(namespace, pod_id) is superseded, every worker whose lease ran out is reaped, and what they ran is taken back. A pod
that is gone registers no more (fencing.py). A worker renews by one update of its own row. A lease that ran out may be
renewed until somebody reaps it: ownership ends when another takes it, not by a clock. Reaping is compare-and-set on the
worker's row (locked FOR UPDATE, which a claim's and a settle's KEY SHARE excludes); what becomes of the tasks that it ran
is the story of recovery.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import NotFound, WorkerLost
from fibflow.logs import logger
from fibflow.metrics import LOST_WORKERS
from fibflow.store.clock import micros, now
from fibflow.store.database import Session, statement, write
from fibflow.store.fencing import refuse_fenced
from fibflow.store.paging import identity
from fibflow.store.pausing import Pausable, set_paused
from fibflow.store.recovery import OPERATOR, SWEPT, take_back
from fibflow.store.tables import worker

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a worker runs, as far as it was told: its pod's uid, the pool it belongs to, since when its process runs by the
    clock of its node (microseconds since 1970), how often it means to renew (seconds), and the types it has handlers for."""

    pod_uid: str | None = None
    pool: str | None = None
    process_started_at: int | None = None
    heartbeat: float | None = None
    handlers: tuple[str, ...] = ()


@write
def register(
    session: Session,
    *,
    pod_id: str | None,
    host: str,
    pid: int,
    slots: int,
    lease: float,
    recover: bool = True,
    supersede: bool = True,
    origin: Origin = Origin(),
) -> int:
    """A new worker's id. Supersedes every other active worker of the pod, reaps the expired, takes back what they ran.

    A process that was superseded itself passes `supersede=False`: WorkerLost as long as another of its pod holds a lease.
    Raises PodFenced for a pod that is gone.
    """
    _check(pod_id, slots, lease, origin)
    if origin.pod_uid is not None:
        refuse_fenced(session, origin.pod_uid)
    moment = session.now()
    ended = _make_room(session, pod_id, moment, supersede)
    row = {
        **{"namespace": session.namespace, "pod_id": pod_id, "host": host, "pid": pid, "slots": slots, "lease": micros(lease)},
        **_stored(origin),
        **{"status": "active", "registered_at": moment, "renewed_at": moment, "expires_at": moment + (micros(lease) or 0)},
    }
    worker_id: int = session.connection.execute(sa.insert(worker).returning(worker.c.id), row).scalar_one()
    session.connection.execute(sa.update(worker).where(worker.c.id.in_(ended)).values(ended_by=worker_id))
    if recover:
        take_back(session, worker_id)
    return worker_id


def _check(pod_id: str | None, slots: int, lease: float, origin: Origin) -> None:
    encoding.optional_text(pod_id, "pod_id", longest=253)
    encoding.number(slots, "slots", 1, 100_000, whole=True)
    encoding.number(lease, "lease", 0.1, 3600)
    for name in ("pod_uid", "pool"):
        encoding.optional_text(getattr(origin, name), name, longest=253)


def _stored(origin: Origin) -> dict[str, Any]:
    return {
        "pod_uid": origin.pod_uid,
        "pool": origin.pool,
        "process_started_at": origin.process_started_at,
        "heartbeat": micros(origin.heartbeat),
        "handlers": encoding.encode(sorted(origin.handlers), "handlers"),
    }


def _make_room(session: Session, pod_id: str | None, moment: int, supersede: bool) -> list[int]:
    """End the workers of the pod, and those of any pod whose lease ran out; their ids. Raises WorkerLost.

    The pod's are locked first: two that register at once, each finding the other's former worker expired, do not wait
    for one another.
    """
    former = _former(session, pod_id) if pod_id is not None else {}
    alive = [worker_id for worker_id, expires_at in former.items() if expires_at >= moment]
    if alive and not supersede:
        raise WorkerLost(f"worker {alive[0]} of pod {pod_id} is active")
    superseded = list(former) if supersede else []
    _end_workers(session, superseded, "superseded", moment, None)
    for worker_id in superseded:
        session.after(log.info, "worker_superseded", worker_id=worker_id, pod_id=pod_id)
    return superseded + _reap(session, moment, None)


def _former(session: Session, pod_id: str) -> dict[int, int]:
    """The active workers of the pod, locked, and when their leases run out."""
    named = sa.and_(worker.c.namespace == session.namespace, worker.c.pod_id == pod_id, worker.c.status == "active")
    query = sa.select(worker.c.id, worker.c.expires_at).where(named).order_by(worker.c.id.desc()).with_for_update()
    return {row.id: row.expires_at for row in session.connection.execute(query)}


def _end_workers(session: Session, ids: Sequence[int], status: str, moment: int, by: int | None) -> None:
    if ids:
        session.after(LOST_WORKERS.labels(status).inc, len(ids))
        change = sa.update(worker).where(worker.c.id.in_(ids))
        session.connection.execute(change.values(status=status, ended_at=moment, ended_by=by))


@statement
def renew(session: Session, worker_id: int) -> bool:
    """Extend the lease; whether the worker is paused. Raises WorkerLost when it was reaped or superseded."""
    mine = sa.and_(worker.c.id == worker_id, worker.c.status == "active")
    change = sa.update(worker).where(mine).values(renewed_at=now(), expires_at=now() + worker.c.lease)
    row = session.connection.execute(change.returning(worker.c.paused)).first()
    if row is None:
        raise WorkerLost(f"worker {worker_id} was reaped or superseded")
    return bool(row.paused)


@write
def stop(session: Session, worker_id: int) -> None:
    """The worker's own end: its lease is given up."""
    change = sa.update(worker).where(worker.c.id == worker_id, worker.c.status == "active")
    session.connection.execute(change.values(status="stopped", ended_at=session.now()))


@write
def pause_worker(session: Session, worker_id: int) -> None:
    """Let a worker claim nothing from its next renewal on; what it runs goes on. Raises NotFound."""
    set_paused(session, _pausable(session, worker_id), True)


@write
def resume_worker(session: Session, worker_id: int) -> None:
    """Let a paused worker claim again from its next renewal on. Raises NotFound."""
    set_paused(session, _pausable(session, worker_id), False)


def _pausable(session: Session, worker_id: int) -> Pausable:
    chosen = worker.c.id == identity(worker_id, "worker_id")
    named = sa.and_(chosen, worker.c.namespace == session.namespace, worker.c.status == "active")
    missing = NotFound("active worker", worker_id, session.namespace)
    return Pausable(worker, named, missing, "worker", log, {"worker_id": worker_id})


@write
def reap(session: Session, by: int, *, recover: bool = True) -> list[int]:
    """End every other worker whose lease ran out, and take back what it ran unless that is not wanted; the reaped."""
    ids = _reap(session, session.now(), by)
    if ids and recover:
        take_back(session, by)
    return ids


def _reap(session: Session, moment: int, by: int | None) -> list[int]:
    """A lease holds at its very expiry; it has run out after that."""
    out = sa.and_(worker.c.status == "active", worker.c.expires_at < moment)
    others = out if by is None else sa.and_(out, worker.c.id != by)
    query = sa.select(worker.c.id).where(others).order_by(worker.c.id.desc()).with_for_update(skip_locked=True)
    ids = list(session.connection.execute(query).scalars())
    _end_workers(session, ids, "reaped", moment, by)
    return ids


def reap_those(session: Session, which: sa.ColumnElement[bool]) -> list[int]:
    """End the active workers that fit, for whoever is no worker itself, and take back what they ran; the reaped."""
    active = sa.and_(worker.c.status == "active", which)
    query = sa.select(worker.c.id).where(active).order_by(worker.c.id.desc()).with_for_update()
    ids = list(session.connection.execute(query).scalars())
    _end_workers(session, ids, "reaped", session.now(), None)
    while ids and take_back(session, OPERATOR) == SWEPT:
        continue
    return ids
