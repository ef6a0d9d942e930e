"""Fencing: what a pod ran that is gone goes to others at once, and the pod never comes back.

Protocol. A pod is named by its uid, which no other pod will ever have. `fence_pods` remembers it for good and reaps its
workers; a registration under that uid is refused from then on, so a container that a kubelet starts again in a pod that
was deleted does nothing. Both take one lock, named by the uid, until they commit: a registration either is seen by the
fence, which reaps it, or sees the fence. There is nothing to renew then: a reaped worker's renewal is refused as ever.

Only a leader fences (installation.py); what tells that a pod is gone is the operator's business. Registering and reaping
are the story of leases.py.
"""

from __future__ import annotations

import sqlalchemy as sa

from fibflow.errors import PodFenced
from fibflow.store.database import Session
from fibflow.store.tables import fenced_pod

LOCKS = 0x666962
"""The first half of the locks' keys: "fib"."""


def refuse_fenced(session: Session, pod_uid: str) -> None:
    """Raise PodFenced if the pod is fenced, and let nobody fence it until the transaction ends."""
    lock_pod(session, pod_uid, "pg_advisory_xact_lock_shared")
    if session.connection.execute(sa.select(fenced_pod.c.pod_uid).where(fenced_pod.c.pod_uid == pod_uid)).first() is not None:
        raise PodFenced(pod_uid)


def lock_pod(session: Session, pod_uid: str, lock: str = "pg_advisory_xact_lock") -> None:
    """Hold the lock of a pod until the transaction ends; SQLite has one writer at a time."""
    if session.postgresql:
        session.connection.execute(sa.select(getattr(sa.func, lock)(LOCKS, sa.func.hashtext(pod_uid))))
