"""How the workers of each WorkerPool are occupied, and which bound types they cannot run: what its status tells."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow import encoding
from fibflow.store.database import Session, read
from fibflow.store.synced import Name
from fibflow.store.tables import task, task_type, worker


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """Of a pool: slots that are taken, and bound types that no worker of it has a handler for, while it has workers."""

    busy: int = 0
    unhandled: tuple[str, ...] = ()


@read
def pool_figures(session: Session) -> dict[Name, PoolFigures]:
    """The figures of the pools that have a worker with a lease."""
    handlers = _handlers(session)
    busy = _busy(session)
    bound = _bound(session)
    return {pool: PoolFigures(busy[pool], tuple(sorted(bound[pool] - known))) for pool, known in handlers.items()}


_active = sa.and_(worker.c.status == sa.text("'active'"), worker.c.pool.is_not(None))


def _handlers(session: Session) -> dict[Name, set[str]]:
    found: defaultdict[Name, set[str]] = defaultdict(set)
    for row in session.connection.execute(sa.select(worker.c.namespace, worker.c.pool, worker.c.handlers).where(_active)):
        known: Any = encoding.decode(row.handlers)
        found[Name(row.namespace, row.pool)].update(known)
    return found


def _busy(session: Session) -> Counter[Name]:
    owned = sa.and_(task.c.worker_id == worker.c.id, task.c.state == sa.text("'running'"))
    query = sa.select(worker.c.namespace, worker.c.pool, sa.func.count()).join(task, owned).where(_active)
    rows = session.connection.execute(query.group_by(worker.c.namespace, worker.c.pool))
    return Counter({Name(namespace, pool): count for namespace, pool, count in rows})


def _bound(session: Session) -> defaultdict[Name, set[str]]:
    found: defaultdict[Name, set[str]] = defaultdict(set)
    query = sa.select(task_type.c.namespace, task_type.c.pool, task_type.c.name).where(task_type.c.resource.is_not(None))
    for row in session.connection.execute(query.where(task_type.c.pool.is_not(None))):
        found[Name(row.namespace, row.pool)].add(row.name)
    return found
