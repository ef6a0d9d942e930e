"""Claim: take due tasks under this worker's fence, in order, without waiting for anybody.

A lane is a task type with the room that the worker has for it. Within a lane the order is `order_key` (run_at minus
priority × step, fixed when the row is written), then id; lanes are merged by the same order. Rows that another worker is
claiming are skipped, so no claim waits for another, and no task is claimed twice: the row's own update decides.

The low-water mark. Behind a held snapshot, claimed rows leave dead entries at the head of the claim's index, and every
claim would walk them again. A worker therefore remembers the order key of the last row that it took from a lane and starts
there, and forgets it once a second and whenever it is told of new work; what came in below the mark waits so long.

The worker's own row is locked FOR KEY SHARE, only when there is something to take, and must be active: reaping and
superseding lock it FOR UPDATE, so a claim and a take-over of its worker never overlap; nor do a claim and the mark that
lets a worker drain. (A renewal is not held up: it changes no key.) Before that it is read, without a lock: a worker that is
none any more hears of what was taken back from it, too, and must not lock it for the moment in which the others look.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from fibflow.lifecycle import Facts
from fibflow.model import DEFAULT_TIMEOUT, SECOND
from fibflow.store.batch import integers
from fibflow.store.clock import seconds
from fibflow.store.database import Session, statement
from fibflow.store.tables import task, task_type, worker

LOWEST = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Lane:
    """A task type, how many of its tasks the worker has room for, and the order key to start from."""

    type_id: int
    room: int
    low: int = LOWEST


class Claimed(NamedTuple):
    """A task as its claim tells it. Durations in microseconds."""

    id: int
    type_id: int
    attempt: int
    stage: int
    payload: str
    order_key: int
    timeout: int | None
    max_attempts: int | None
    failures: int
    interruptions: int
    backoff: int | None
    backoff_factor: float | None
    max_backoff: int | None
    priority: int
    tag: str | None
    parent_id: int | None
    root_id: int | None
    spawned: int | None
    context: bytes | None
    created_at: int
    run_at: int
    claimed_at: int
    trace: str | None

    @property
    def facts(self) -> Facts:
        """What decides the future of the task."""
        backoff, longest = seconds(self.backoff), seconds(self.max_backoff)
        return Facts(self.failures, self.interruptions, self.max_attempts, backoff, self.backoff_factor, longest)


Rows = Sequence[Sequence[Any]]


@statement
def claim(session: Session, worker_id: int, lanes: Sequence[Lane], limit: int) -> Sequence[Claimed]:
    """At most `limit` due tasks, now running under this worker, in claiming order. None for a worker that is not active."""
    if session.postgresql:
        taken = _claim_in_one(session, worker_id, lanes, limit)
    else:
        taken = _claim_in_steps(session, worker_id, lanes, limit)
    return sorted(itertools.starmap(Claimed, taken), key=_in_order)


def _in_order(row: Any) -> tuple[int, int]:
    return row.order_key, row.id


# ── PostgreSQL: one statement ─────────────────────────────────────────────────────────────────────────────────────

MAY_CLAIM = "SELECT id FROM fibflow.worker WHERE id = :worker AND status = 'active' AND NOT draining"

CLAIM_HEAD = f"""
WITH lane AS (
    SELECT l.type_id, l.room, l.low
    FROM unnest(CAST(:types AS bigint[]), CAST(:rooms AS bigint[]), CAST(:lows AS bigint[])) AS l(type_id, room, low)
    JOIN fibflow.task_type y ON y.id = l.type_id AND NOT y.paused AND NOT y.suspended
    WHERE EXISTS ({MAY_CLAIM})
)"""

QUOTA_OF_ONE_LANE = """, quota AS (
    SELECT type_id, low, least(room, :limit) AS n FROM lane
)"""

QUOTA_OF_MANY_LANES = """, head AS (
    SELECT l.type_id, l.low, t.order_key, t.id
    FROM lane l CROSS JOIN LATERAL (
        SELECT id, order_key FROM fibflow.task
        WHERE state = 'ready' AND type_id = l.type_id AND order_key >= l.low
        ORDER BY order_key, id LIMIT least(l.room, :limit)
    ) t
    ORDER BY t.order_key, t.id LIMIT :limit
), quota AS (
    SELECT type_id, low, count(*) AS n FROM head GROUP BY type_id, low
)"""

CLAIM_TAIL = f""", pick AS MATERIALIZED (
    SELECT t.id
    FROM quota q CROSS JOIN LATERAL (
        SELECT id FROM fibflow.task
        WHERE state = 'ready' AND type_id = q.type_id AND order_key >= q.low
        ORDER BY order_key, id LIMIT q.n FOR UPDATE SKIP LOCKED
    ) t
), owner AS MATERIALIZED (
    {MAY_CLAIM} AND EXISTS (SELECT FROM pick)
    FOR KEY SHARE
), clock AS MATERIALIZED (
    SELECT fibflow.fibflow_now() AS now
)
UPDATE fibflow.task t
SET state = 'running', attempt = t.attempt + 1, worker_id = o.id, claimed_at = k.now,
    started_at = coalesce(t.started_at, k.now),
    deadline_at = k.now + coalesce(t.timeout, :default_timeout),
    last_event_type = 'task_started', last_event_at = k.now
FROM owner o, clock k
WHERE t.id = ANY (ARRAY(SELECT id FROM pick))
RETURNING {", ".join(f"t.{name}" for name in Claimed._fields)}"""


@cache
def claim_statement(many: bool) -> sa.TextClause:
    return sa.text(CLAIM_HEAD + (QUOTA_OF_MANY_LANES if many else QUOTA_OF_ONE_LANE) + CLAIM_TAIL)


def _claim_in_one(session: Session, worker_id: int, lanes: Sequence[Lane], limit: int) -> Rows:
    parameters = {
        "types": integers([lane.type_id for lane in lanes]),
        "rooms": integers([lane.room for lane in lanes]),
        "lows": integers([lane.low for lane in lanes]),
        "limit": limit,
        "worker": worker_id,
        "default_timeout": round(DEFAULT_TIMEOUT * SECOND),
    }
    return session.fetch(claim_statement(len(lanes) > 1), parameters)


# ── SQLite: a few statements while no one else can write ──────────────────────────────────────────────────────────


def _claim_in_steps(session: Session, worker_id: int, lanes: Sequence[Lane], limit: int) -> Rows:
    if session.connection.execute(ACTIVE, {"worker": worker_id}).first() is None:
        return []
    heads = [session.connection.execute(LANE_HEAD, _lane(lane, limit)).all() for lane in lanes]
    ids = [row.id for row in list(heapq.merge(*heads, key=_in_order))[:limit]]
    if not ids:
        return []
    moment = session.now()
    return session.connection.execute(TAKE, {"ids": ids, "worker": worker_id, "now": moment}).all()


def _lane(lane: Lane, limit: int) -> dict[str, int]:
    return {"type": lane.type_id, "low": lane.low, "room": min(lane.room, limit)}


ACTIVE = sa.select(worker.c.id).where(worker.c.id == sa.bindparam("worker"), worker.c.status == "active", ~worker.c.draining)
LANE_HEAD = (
    sa.select(task.c.id, task.c.order_key)
    .join(task_type, task_type.c.id == task.c.type_id)
    .where(task.c.state == sa.text("'ready'"), task.c.type_id == sa.bindparam("type"))
    .where(task.c.order_key >= sa.bindparam("low"), ~task_type.c.paused, ~task_type.c.suspended)
    .order_by(task.c.order_key, task.c.id)
    .limit(sa.bindparam("room", type_=sa.Integer))
)
_moment = sa.bindparam("now", type_=sa.BigInteger)
TAKE = (
    sa.update(task)
    .where(task.c.id.in_(sa.bindparam("ids", expanding=True)))
    .values(
        state="running",
        attempt=task.c.attempt + 1,
        worker_id=sa.bindparam("worker"),
        claimed_at=_moment,
        started_at=sa.func.coalesce(task.c.started_at, _moment),
        deadline_at=_moment + sa.func.coalesce(task.c.timeout, round(DEFAULT_TIMEOUT * SECOND)),
        last_event_type="task_started",
        last_event_at=_moment,
    )
    .returning(*(task.c[name] for name in Claimed._fields))
)
