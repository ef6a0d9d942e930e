"""Enqueue: one task or many, all or nothing, at most one statement for each run of tasks that are alike.

What is said of a task is checked here; the statement is insertion.py's. A type that does not exist inserts nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fibflow import encoding, tracing
from fibflow.errors import InvalidInput, TaskTypeDraining, UnknownTaskType
from fibflow.logs import logger
from fibflow.model import UNSAID, NewTask, Options, TaskId
from fibflow.store import insertion
from fibflow.store.batch import values
from fibflow.store.clock import from_datetime, micros
from fibflow.store.database import Session, statement, write
from fibflow.store.notices import WAKE_INTERVAL, wake
from fibflow.store.tables import task_type
from fibflow.store.tasktypes import option_columns

log = logger(__name__)

CHUNK = 5000
"""Payloads in one statement."""


@dataclass(frozen=True, slots=True)
class Parentage:
    """What children take from their parent: its ids, and the options of its own that they inherit."""

    parent_id: int
    root_id: int
    generation: int
    options: Options


@dataclass(frozen=True, slots=True)
class Tickage:
    """The cron task and the instant that a task is for."""

    cron_id: int
    tick: int


@dataclass(slots=True)
class _Run:
    """Tasks of one statement: of one type, with the same said of them; their payloads as JSON text."""

    type: str
    said: dict[str, Any]
    payloads: list[str]


@statement
def enqueue(session: Session, new: NewTask) -> TaskId:
    """Store one task; its id. Raises InvalidInput, UnknownTaskType."""
    return insert_tasks(session, [new])[0]


@write
def enqueue_many(session: Session, tasks: Sequence[NewTask]) -> list[TaskId]:
    """Store all of the tasks or none; their ids in the same order. Raises InvalidInput, UnknownTaskType."""
    return insert_tasks(session, tasks)


def insert_tasks(
    session: Session, tasks: Sequence[NewTask], parentage: Parentage | None = None, tickage: Tickage | None = None
) -> list[TaskId]:
    """Insert tasks inside the caller's transaction; their ids in the same order."""
    ids: list[TaskId] = []
    inherited = _inherited(parentage, tickage)
    for run in _runs(tasks):
        with tracing.enqueuing(run.type, len(run.payloads), run.said.get("trace")) as trace:
            said = run.said | inherited | ({"trace": trace} if trace else {})
            for start in range(0, len(run.payloads), CHUNK):
                ids += _insert(session, run.type, said, run.payloads[start : start + CHUNK])
    return ids


def _runs(tasks: Sequence[NewTask]) -> list[_Run]:
    """All of the tasks, checked, in runs that are alike."""
    runs: list[_Run] = []
    before = None
    for new in encoding.several(tasks, "tasks"):
        if before is None or not _says_the_same(new, before):
            said = _said(new)
            if not runs or (runs[-1].type, runs[-1].said) != (new.type, said):
                runs.append(_Run(new.type, said, []))
        runs[-1].payloads.append(encoding.encode(new.payload, "payload"))
        before = new
    return runs


def _says_the_same(new: object, before: NewTask) -> bool:
    """Whether a task was given the very objects of the one before, payload aside: then they need no second check."""
    return (
        isinstance(new, NewTask)
        and new.type is before.type
        and new.options is before.options
        and new.tag is before.tag
        and new.delay is before.delay
        and new.run_at is before.run_at
        and new.trace is before.trace
    )


def _said(new: NewTask) -> dict[str, Any]:
    """What is said of a task besides type and payload, checked, by the names of the statement's parameters."""
    if not isinstance(new, NewTask):
        raise InvalidInput("tasks", new, "is not a task; give a NewTask, or child(...) in a handler")
    encoding.text(new.type, "type", longest=253)
    said = {} if new.options == UNSAID else _known(option_columns(encoding.check_options(new.options)))
    if new.tag is not None:
        said["tag"] = encoding.text(new.tag, "tag", longest=253)
    if new.trace is not None:
        said["trace"] = encoding.text(new.trace, "trace", longest=255)
    if new.delay is not None and new.run_at is not None:
        raise InvalidInput("delay", new.delay, "and run_at were both given; give one of them")
    if new.delay is not None:
        said["delay"] = micros(encoding.number(new.delay, "delay", 0, encoding.LONGEST_DURATION))
    if new.run_at is not None:
        said["run_at"] = from_datetime(encoding.aware(new.run_at, "run_at"))
    return said


def _inherited(parentage: Parentage | None, tickage: Tickage | None) -> dict[str, Any]:
    """What comes of a parent or of a tick, by the names of the statement's parameters."""
    said: dict[str, Any] = {}
    if parentage:
        said |= {"parent_id": parentage.parent_id, "root_id": parentage.root_id, "generation": parentage.generation}
        said |= {f"parent_{name}": value for name, value in _known(option_columns(parentage.options)).items()}
    if tickage:
        said |= {"cron_id": tickage.cron_id, "tick": tickage.tick}
    return said


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _insert(session: Session, type: str, said: dict[str, Any], payloads: Sequence[str]) -> list[TaskId]:
    found = _execute(session, type, said, payloads)
    if not found:
        raise _no_type(session, type)
    if log.isEnabledFor(logging.DEBUG):
        session.after(log.debug, "task_created", type=type, tasks=len(found), first=found[0])
    return sorted(found)


def _no_type(session: Session, name: str) -> UnknownTaskType:
    """Why a type takes no tasks: nothing has declared it, or its TaskType was deleted."""
    named = sa.and_(task_type.c.namespace == session.namespace, task_type.c.name == name)
    draining = session.connection.execute(sa.select(task_type.c.draining).where(named)).scalar()
    return (TaskTypeDraining if draining else UnknownTaskType)(name, session.namespace)


def _execute(session: Session, type: str, said: dict[str, Any], payloads: Sequence[str]) -> Sequence[TaskId]:
    one = len(payloads) == 1
    insert = (insertion.of_one if one else insertion.of_many)(session.postgresql, frozenset(said))
    given = said | {"namespace": session.namespace, "type": type, "step": session.priority_step}
    given |= {"payload": payloads[0]} if one else values(session, "p", {"payload": payloads})
    if session.postgresql:
        given["wake"] = _may_wake(session, hash(type))
        return [id for id, _ in session.fetch(insert, given)]
    found = session.connection.execute(insert, given).all()
    if found and _may_wake(session, hash(type)):
        wake(session, str(found[0].type_id))
    return [row.id for row in found]


def _may_wake(session: Session, key: int) -> bool:
    """Whether this process may tell of this type now; whoever was told looks again a little later."""
    moment = time.monotonic()
    if moment - session.wakes.last.get(key, 0.0) < WAKE_INTERVAL:
        return False
    session.after(session.wakes.last.__setitem__, key, moment)
    return True
