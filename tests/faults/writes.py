"""What a worker writes for an attempt, verb by verb, and all that a database holds of some tasks.

A write returns the refusals that it got. A settle may name several attempts; each of the other verbs names one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from faults.scenes import TYPE, Attempt
from faults.states import states
from fibflow.errors import LeaseLost
from fibflow.lifecycle import Facts, Next, after_failure, after_release, ended
from fibflow.model import NewTask, Outcome
from fibflow.store import record, settle
from fibflow.store.database import Database, Session, read
from fibflow.store.ending import Ending
from fibflow.store.notes import ENDS, Note
from fibflow.store.tables import attempt, event, stale_write, task, task_final, worker

Write = Callable[[Database, Sequence[Attempt]], list[LeaseLost]]
Dump = dict[str, list[tuple[Any, ...]]]

NOTE = Note("task_status_changed", ENDS, message="late")


def _settle(
    outcome: Outcome, after: Next, parts: dict[str, Any], database: Database, late: Sequence[Attempt]
) -> list[LeaseLost]:
    endings = [Ending(one.task_id, one.fence, one.worker_id, outcome, after, **parts) for one in late]
    return list(database.call(settle.settle, late[0].worker_id, endings))


def _spawn(database: Database, late: Sequence[Attempt]) -> list[LeaseLost]:
    (one,) = late
    after = ended(Facts(), Outcome.SUSPENDED)
    key = (one.task_id, one.fence, one.worker_id)
    ending = Ending(*key, Outcome.SUSPENDED, after, context=b"late", children=2, notes=(NOTE,))
    return list(database.call(record.spawn, one.worker_id, ending, [NewTask(TYPE, {"n": n}) for n in range(2)]))


def _progress(database: Database, late: Sequence[Attempt]) -> list[LeaseLost]:
    return _note(database, late, *record.progress_note("late", "late_stage", 99, "late", {"late": True}))


def _checkpoint(database: Database, late: Sequence[Attempt]) -> list[LeaseLost]:
    return _note(database, late, record.checkpoint_note("late", "late", {"late": True}), {})


def _note(database: Database, late: Sequence[Attempt], note: Note, snapshot: dict[str, Any]) -> list[LeaseLost]:
    (one,) = late
    refused = database.call(record.note_running, one.worker_id, one.task_id, one.fence, note, snapshot)
    return [] if refused is None else [refused]


SETTLES: dict[str, Write] = {
    "complete": partial(_settle, Outcome.COMPLETED, ended(Facts(), Outcome.COMPLETED), {"result": '"late"'}),
    "fail": partial(_settle, Outcome.FAILED, after_failure(Facts()), {"error": "late"}),
    "give_up": partial(_settle, Outcome.FAILED, after_failure(Facts(), retryable=False), {"error": "late"}),
    "time_out": partial(_settle, Outcome.TIMEOUT, after_failure(Facts()), {"error": "late"}),
    "interrupt": partial(_settle, Outcome.INTERRUPTED, after_release(Facts()), {"notes": (NOTE,)}),
    "suspend": partial(
        _settle, Outcome.SUSPENDED, ended(Facts(), Outcome.SUSPENDED), {"suspend_reason": "late", "context": b"late"}
    ),
}
WRITES: dict[str, Write] = SETTLES | {"spawn": _spawn, "progress": _progress, "checkpoint": _checkpoint}


# ── all that there is to change ───────────────────────────────────────────────────────────────────────────────────


@read
def dump(session: Session, tasks: Sequence[int], but: Sequence[int]) -> Dump:
    """Every row of these tasks, of their relatives, and of the workers, and how many rows there are of others."""
    ids = sorted({*tasks, *(task_id for task_id, _ in states(session, tasks, True))})
    found: Dump = {"workers": _rows(session, sa.select(worker).order_by(worker.c.id.desc()).limit(4))}
    for table, key in ((task, "id"), (task_final, "id"), (attempt, "task_id"), (event, "task_id")):
        mine = table.c[key].in_(ids)
        found[table.name] = _rows(session, sa.select(table).where(mine).order_by(*table.primary_key.columns))
        others = sa.select(sa.func.count()).select_from(table).where(table.c[key].not_in([*ids, *but]))
        found[f"other {table.name}"] = _rows(session, others)
    return found


def _rows(session: Session, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.connection.execute(query)]


@read
def stale_counts(session: Session, tasks: Sequence[int]) -> dict[tuple[int, int, str], int]:
    """How often which write was refused, as the database remembers it."""
    columns = (stale_write.c.task_id, stale_write.c.fence, stale_write.c.verb, stale_write.c.count)
    query = sa.select(*columns).where(stale_write.c.task_id.in_(tasks))
    return {(task_id, fence, verb): count for task_id, fence, verb, count in session.connection.execute(query)}
