"""What a leading operator does about pods that it saw go, restart or fall silent.

    fence_pods       the pod is gone: its uid is fenced for ever, its workers are reaped
    reap_former      a container of it ended: the workers of processes that began before that are reaped
    reap_silent      its node is silent: workers that missed two heartbeats are reaped, one that renews is left alone

Each takes back the tasks of what it reaps in the same transaction and returns the reaped workers' ids; repeating one
changes nothing. Why a fence holds is told in fencing.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from fibflow.model import SECOND
from fibflow.store.clock import now
from fibflow.store.database import Session, read, write
from fibflow.store.fencing import lock_pod
from fibflow.store.installation import Lead, check_lead
from fibflow.store.leases import reap_those
from fibflow.store.tables import fenced_pod, worker
from fibflow.store.tasktypes import insert_or_nothing


@write
def fence_pods(session: Session, lead: Lead, pod_uids: Collection[str]) -> list[int]:
    """These pods are gone. Raises LeadLost."""
    check_lead(session, lead)
    uids = sorted(pod_uids)
    for uid in uids:
        lock_pod(session, uid)
    rows = [{"pod_uid": uid, "fenced_at": session.now()} for uid in uids]
    session.connection.execute(insert_or_nothing(session, fenced_pod), rows)
    return reap_those(session, worker.c.pod_uid.in_(uids))


@write
def reap_former(session: Session, lead: Lead, pod_uid: str, ended_at: int) -> list[int]:
    """A container of the pod ended at that instant, by its node's clock (microseconds). Raises LeadLost."""
    check_lead(session, lead)
    return reap_those(session, sa.and_(worker.c.pod_uid == pod_uid, worker.c.process_started_at < ended_at))


@write
def reap_silent(session: Session, lead: Lead, pod_uids: Collection[str]) -> list[int]:
    """The nodes of these pods do not answer. Raises LeadLost."""
    check_lead(session, lead)
    return reap_those(session, _silent(pod_uids))


@read
def silent_in(session: Session, pod_uids: Collection[str]) -> float | None:
    """In how many seconds `reap_silent` will reap one of these that does not renew: 0 for now, None for never."""
    theirs = sa.and_(worker.c.status == sa.text("'active'"), worker.c.pod_uid.in_(sorted(pod_uids)))
    left = session.connection.execute(sa.select(sa.func.min(_second_beat) - now()).where(theirs)).scalar()
    return None if left is None else max(left + 1, 0) / SECOND  # it is missed from the microsecond after on


_second_beat: sa.ColumnElement[int] = worker.c.renewed_at + 2 * worker.c.heartbeat


def _silent(pod_uids: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.and_(worker.c.pod_uid.in_(sorted(pod_uids)), _second_beat < now())


@dataclass(frozen=True, slots=True)
class PodRow:
    """A pod that holds a lease, as the database knows it."""

    namespace: str
    pod_id: str
    pod_uid: str


@read
def pods_with_leases(session: Session) -> set[PodRow]:
    """The pods that hold a lease now and work for a pool, by what their workers say."""
    ours = sa.and_(worker.c.status == sa.text("'active'"), worker.c.pod_uid.is_not(None), worker.c.pool.is_not(None))
    query = sa.select(worker.c.namespace, worker.c.pod_id, worker.c.pod_uid).where(ours, worker.c.pod_id.is_not(None))
    return {PodRow(*row) for row in session.connection.execute(query)}
