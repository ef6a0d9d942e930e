"""The rows of a history: stored events, and those that follow from tasks, attempts and refused writes.

RULES is the whole of what is derived from attempts, one rule a line. How the rows are ordered, filtered and shown is
the story of audit.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow.model import EventType, Outcome, Status
from fibflow.store.attempts import Scope, united_attempts
from fibflow.store.notes import CLAIMED, CREATED, ENDS, FOLLOWS, REFUSED, STARTED
from fibflow.store.snapshot import united
from fibflow.store.tables import event, stale_write

BIG, TEXT = sa.BigInteger(), sa.Text()
SHAPE: dict[str, sa.types.TypeEngine[Any]] = {
    "task_id": BIG,
    "attempt": BIG,
    "phase": BIG,
    "event_id": BIG,
    "type": TEXT,
    "at": BIG,
    "stage": BIG,
    "from_status": TEXT,
    "to_status": TEXT,
    "worker_id": BIG,
    "message": TEXT,
    "metadata": TEXT,
    "verb": TEXT,
    "count": BIG,
    "failures": BIG,
    "outcome": TEXT,
    "ended_by": BIG,
}
"""The columns of every row; `event_id` is 0 in what is derived, `verb` is empty but in refused writes. `failures` are
those before the attempt, `message` is its error in what is derived from its end."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An event that an attempt implies: when the outcome is one of these, and the task became this. None for any."""

    type: EventType
    phase: int
    source: Status | None
    target: Status | None
    outcomes: tuple[Outcome, ...] | None = None
    became: Status | None = None
    retry: bool | None = None

    def of(self, each: sa.CTE) -> list[sa.ColumnElement[bool]]:
        where: list[sa.ColumnElement[bool]] = []
        if self.outcomes is not None:
            where.append(each.c.outcome.in_([outcome.value for outcome in self.outcomes]))
        if self.became is not None:
            where.append(each.c.became == self.became.value)
        if self.retry is not None:
            where.append(each.c.failures > 0 if self.retry else each.c.failures == 0)
        return where


P, R, C, F = Status.PENDING, Status.RUNNING, Status.COMPLETED, Status.PERMANENTLY_FAILED
DONE, FAILED, LATE, LOST = Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMEOUT, Outcome.INTERRUPTED

RULES = (
    Rule(EventType.CLAIMED, CLAIMED, P, R),
    Rule(EventType.STARTED, STARTED, R, R, retry=False),
    Rule(EventType.RETRY_STARTED, STARTED, R, R, retry=True),
    Rule(EventType.COMPLETED, ENDS, R, C, (DONE,)),
    Rule(EventType.FAILED, ENDS, R, None, (FAILED,)),
    Rule(EventType.TIMED_OUT, ENDS, R, None, (LATE,)),
    Rule(EventType.RETRY_SCHEDULED, FOLLOWS, R, P, (FAILED, LATE), became=P),
    Rule(EventType.PERMANENTLY_FAILED, FOLLOWS, R, F, (FAILED, LATE, LOST), became=F),
)
"""A target of None is what the task became."""


def history(namespace: str, where_to_look: Scope) -> sa.Subquery:
    """Every event in scope, with its task's root, parent, type, tag and attempts."""
    columns = ("id", "root_id", "parent_id", "type", "tag", "max_attempts", "created_at")
    subject = united(namespace, [where_to_look.task_id], columns, workflow=where_to_look.workflow)
    one = sa.select(subject).cte("subject")
    each = united_attempts(where_to_look).cte("each_attempt")
    branches = [_created(one), *(_derived(rule, each) for rule in RULES), _stored(where_to_look)]
    rows = sa.union_all(*branches, _refused(where_to_look, each)).subquery("happened")
    joined = sa.select(
        rows,
        sa.func.coalesce(one.c.root_id, one.c.id).label("root_id"),
        one.c.parent_id,
        one.c.type.label("task_type"),
        one.c.tag,
        one.c.max_attempts,
    ).join_from(rows, one, one.c.id == rows.c.task_id)
    return joined.subquery("history")


def _select(known: Mapping[str, Any]) -> sa.Select[Any]:
    """A row of SHAPE: what is known, and NULL. What never varies is written into the statement."""
    return sa.select(*(_typed(known.get(name), kind).label(name) for name, kind in SHAPE.items()))


def _typed(value: Any, kind: sa.types.TypeEngine[Any]) -> sa.ColumnElement[Any]:
    if value is None:
        return sa.cast(sa.null(), kind)
    if isinstance(value, sa.ColumnElement):
        return value
    return sa.cast(sa.literal(value, kind, literal_execute=True), kind)


def _created(one: sa.CTE) -> sa.Select[Any]:
    return _select(
        {
            "task_id": one.c.id,
            "attempt": 0,
            "phase": CREATED,
            "event_id": 0,
            "type": EventType.CREATED.value,
            "at": one.c.created_at,
            "stage": 0,
            "to_status": P.value,
            "verb": "",
        }
    )


def _derived(rule: Rule, each: sa.CTE) -> sa.Select[Any]:
    at_the_end = rule.phase >= ENDS
    known = {
        "task_id": each.c.task_id,
        "attempt": each.c.attempt,
        "phase": rule.phase,
        "event_id": 0,
        "type": rule.type.value,
        "at": each.c.ended_at if at_the_end else each.c.started_at,
        "stage": each.c.stage,
        "from_status": rule.source.value if rule.source else None,
        "to_status": rule.target.value if rule.target else each.c.became,
        "worker_id": each.c.worker_id,
        "message": each.c.error if at_the_end else None,
        "failures": each.c.failures,
        "outcome": each.c.outcome,
        "ended_by": each.c.ended_by,
        "verb": "",
    }
    return _select(known).where(*rule.of(each))


def _stored(where_to_look: Scope) -> sa.Select[Any]:
    known: dict[str, Any] = {name: event.c[name] for name in SHAPE if name in event.c}
    return _select({**known, "event_id": event.c.id, "verb": ""}).where(where_to_look.of(event.c.task_id))


def _refused(where_to_look: Scope, each: sa.CTE) -> sa.Select[Any]:
    """Writes of attempts that had ended; a stage of 0 when the attempt itself left no row."""
    known = {
        "task_id": stale_write.c.task_id,
        "attempt": stale_write.c.fence,
        "phase": REFUSED,
        "event_id": 0,
        "type": EventType.STALE_WRITE_REJECTED.value,
        "at": stale_write.c.at,
        "stage": sa.func.coalesce(each.c.stage, 0),
        "worker_id": stale_write.c.worker_id,
        "verb": stale_write.c.verb,
        "count": stale_write.c["count"],
    }
    same = sa.and_(each.c.task_id == stale_write.c.task_id, each.c.attempt == stale_write.c.fence)
    joined = _select(known).select_from(stale_write.outerjoin(each, same))
    return joined.where(where_to_look.of(stale_write.c.task_id))
