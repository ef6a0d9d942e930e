"""Cron tasks: declared, paused and resumed.

`decided_through` never goes back, whatever the clock does or is declared; a deleted row that is declared again is a new
row, and starts at the database's now. How instants are decided is the story of deciding.py, how
cron tasks and their ticks are read, of cron_reading.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fibflow import encoding
from fibflow.errors import InvalidInput, NotFound, UnknownTaskType
from fibflow.logs import logger
from fibflow.model import ConcurrencyPolicy, Json, MissedRunPolicy, Options
from fibflow.schedule import Schedule
from fibflow.store.cron_reading import named
from fibflow.store.database import Session, write
from fibflow.store.pausing import Pausable, set_paused
from fibflow.store.tables import cron_task, cron_tick, task_type
from fibflow.store.tasktypes import option_columns
from fibflow.ticks import SkippedRange, missed

log = logger(__name__)

Row = Mapping[str, Any]
E_ = TypeVar("E_", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class CronDeclaration:
    """What code or a resource says of a cron task."""

    name: str
    type: str
    schedule: str
    payload: Json = field(default_factory=dict)
    tag: str | None = None
    options: Options = field(default_factory=Options)
    missed_run_policy: MissedRunPolicy | str = MissedRunPolicy.RUN_LATEST
    concurrency_policy: ConcurrencyPolicy | str = ConcurrencyPolicy.FORBID
    pause_on_failure: bool = True
    suspended: bool = False


# ── declaring ─────────────────────────────────────────────────────────────────────────────────────────────────────


@write
def put_cron(session: Session, declaration: CronDeclaration, source: str = "code") -> int:
    """Declare a cron task; its id. One that changes nothing writes nothing; none un-pauses.

    A resource wins: what code declares under the name of a resource changes nothing.
    Raises InvalidInput (of the field that is wrong), UnknownTaskType.
    """
    wanted = {**cron_columns(declaration), "type_id": _type_id(session, declaration.type), "source": source}
    stored = _locked(session, declaration.name)
    if stored is None:
        added = _insert(session, wanted)
        if added is not None:
            return added
        stored = _locked(session, declaration.name)  # another was faster, and has committed
    if stored is None:
        raise NotFound("cron task", declaration.name, session.namespace)
    if source == "resource" or stored["source"] == "code":
        update_cron(session, stored, wanted)
    return int(stored["id"])


def cron_columns(declaration: CronDeclaration) -> dict[str, Any]:
    """The declaration as it is stored, checked."""
    return {
        "name": encoding.text(declaration.name, "name", longest=253),
        "schedule": Schedule.parse(declaration.schedule).text,
        "payload": encoding.encode(declaration.payload, "payload"),
        "tag": encoding.optional_text(declaration.tag, "tag", longest=253),
        **option_columns(encoding.check_options(declaration.options)),
        "missed_run_policy": _one_of(MissedRunPolicy, declaration.missed_run_policy, "missed_run_policy"),
        "concurrency_policy": _one_of(ConcurrencyPolicy, declaration.concurrency_policy, "concurrency_policy"),
        "pause_on_failure": _flag(declaration.pause_on_failure, "pause_on_failure"),
        "suspended": _flag(declaration.suspended, "suspended"),
    }


def _one_of(choices: type[E_], value: object, name: str) -> str:
    if value not in list(choices):
        raise InvalidInput(name, value, f"is not one of {', '.join(choices)}")
    return str(value)


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(name, value, "is not true or false")
    return value


def _type_id(session: Session, name: str) -> int:
    encoding.text(name, "type", longest=253)
    query = sa.select(task_type.c.id).where(task_type.c.namespace == session.namespace, task_type.c.name == name)
    found = session.connection.execute(query).scalar()
    if found is None:
        raise UnknownTaskType(name, session.namespace)
    return int(found)


def _locked(session: Session, name: str) -> Row | None:
    query = sa.select(cron_task).where(named(session, name)).with_for_update()
    found = session.connection.execute(query).mappings().first()
    return None if found is None else dict(found)


def _insert(session: Session, wanted: Row) -> int | None:
    """The new row's id; None if there is one of that name."""
    dialect = postgresql if session.postgresql else sqlite
    moment = session.now()
    row = {**wanted, "namespace": session.namespace, **starting_at(wanted["schedule"], moment)}
    added = dialect.insert(cron_task).values(row).on_conflict_do_nothing().returning(cron_task.c.id)
    return session.connection.execute(added).scalar()


def update_cron(session: Session, stored: Row, wanted: Row) -> None:
    """Store what is wanted, where the row does not say so already."""
    changes = {name: value for name, value in wanted.items() if stored[name] != value}
    if changes:
        through = stored["decided_through"]
        if "schedule" in changes:  # the new schedule's instants begin now
            through = max(through, session.now())
            _leave(session, stored, through)
        changes |= starting_at(wanted["schedule"], through)
        session.connection.execute(sa.update(cron_task).where(cron_task.c.id == stored["id"]).values(changes))


def _leave(session: Session, stored: Row, through: int) -> None:
    """What nobody has decided of a schedule that is given up was missed."""
    gaps = missed(Schedule.parse(stored["schedule"]), stored["decided_through"], through)
    records = [{**skipped(stored["id"], gap), "decided_at": through} for gap in gaps]
    if records:
        session.connection.execute(sa.insert(cron_tick).values(records))


def skipped(cron_id: int, gap: SkippedRange) -> dict[str, Any]:
    """The row of instants that are skipped together."""
    span = {"tick": gap.first, "through": gap.last, "count": gap.count}
    return {"cron_id": cron_id, "task_id": None, "decision": "skip", "reason": gap.reason, **span}


def starting_at(schedule: str, through: int) -> dict[str, int]:
    """The columns of a schedule whose instants up to `through` are decided."""
    return {"decided_through": through, "next_at": Schedule.parse(schedule).next_after(through)}


@write
def delete_cron(session: Session, name: str) -> None:
    """Forget a cron task and its ticks; their tasks stay. Raises NotFound."""
    deleted = sa.delete(cron_task).where(named(session, name)).returning(cron_task.c.id)
    cron_id = session.connection.execute(deleted).scalar()
    if cron_id is None:
        raise NotFound("cron task", name, session.namespace)
    session.connection.execute(sa.delete(cron_tick).where(cron_tick.c.cron_id == cron_id))


# ── pausing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@write
def pause_cron(session: Session, name: str) -> None:
    """Decide no more ticks until it is resumed; what was missed is decided then. Raises NotFound."""
    set_paused(session, _pausable(session, name), True)


@write
def resume_cron(session: Session, name: str) -> None:
    """Go on, with the instants that were missed first. Raises NotFound."""
    set_paused(session, _pausable(session, name), False)


def _pausable(session: Session, name: str) -> Pausable:
    told = {"cron": name, "namespace": session.namespace}
    missing = NotFound("cron task", name, session.namespace)
    return Pausable(cron_task, named(session, name), missing, "cron", log, told, also={"paused_reason": None})


def pause_after_failure(session: Session, failed: Iterable[tuple[int, int]]) -> None:
    """Pause the cron tasks whose ticks failed for good: pairs of (cron id, task id). In the caller's transaction."""
    asked = sa.and_(cron_task.c.pause_on_failure, ~cron_task.c.paused)
    for cron_id, task_id in sorted(failed):  # locks are taken by rising id
        change = sa.update(cron_task).where(cron_task.c.id == cron_id, asked)
        reason = f"task {task_id} failed for good"
        if session.connection.execute(change.values(paused=True, paused_reason=reason)).rowcount:
            session.after(log.info, "cron_paused", cron_id=cron_id, task_id=task_id)
