"""Task types: declared by code or by a resource, paused and resumed.

Both declarations are kept; the effective options are the resource's, then the code's. A declaration that changes nothing
writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fibflow import encoding
from fibflow.errors import InvalidInput, NotFound, UnknownTaskType
from fibflow.logs import logger
from fibflow.model import Options
from fibflow.records import TaskType
from fibflow.store.clock import micros, seconds
from fibflow.store.database import Session, read, write
from fibflow.store.pausing import Pausable, set_paused
from fibflow.store.tables import task_type

log = logger(__name__)

DURATIONS = ("timeout", "backoff", "max_backoff")
OPTION_NAMES = ("timeout", "max_attempts", "backoff", "backoff_factor", "max_backoff", "priority")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What code or a resource says of a task type."""

    name: str
    options: Options = field(default_factory=Options)
    max_concurrent_tasks: int | None = None
    description: str | None = None
    suspended: bool = False
    pool: str | None = None


@write
def declare_types(
    session: Session, declarations: Sequence[Declaration], source: str = "code", pool: str | None = None
) -> dict[str, int]:
    """Store what code (`source="code"`) or resources ("resource") declare; the ids by name.

    A type that is new is bound to `pool`, that of the worker whose code declares it, until a resource says otherwise.
    """
    for declaration in declarations:
        check_declaration(declaration)
    names = [declaration.name for declaration in declarations]
    stored = _rows(session, names)
    _insert(session, [name for name in names if name not in stored], source, pool)
    stored = _rows(session, names)
    changed = [each for each in declarations if _changes(stored[each.name], each, source)]
    locked = _rows(session, [each.name for each in changed], lock=True)  # what another has said meanwhile stays said
    for declaration in changed:
        update_type(session, locked[declaration.name], declaration, source)
    return {name: row["id"] for name, row in stored.items()}


def check_declaration(declaration: Declaration) -> None:
    """Raise InvalidInput for a declaration that could not be stored."""
    if not isinstance(declaration, Declaration):
        raise InvalidInput("declaration", declaration, "is not a Declaration; write Declaration(NAME)")
    encoding.text(declaration.name, "type", longest=253)
    encoding.check_options(declaration.options)
    encoding.optional_text(declaration.description, "description")
    if declaration.max_concurrent_tasks is not None:
        encoding.number(declaration.max_concurrent_tasks, "max_concurrent_tasks", 1, 1_000_000, whole=True)


def _rows(session: Session, names: Iterable[str], lock: bool = False) -> dict[str, Mapping[str, Any]]:
    query = sa.select(task_type).where(task_type.c.namespace == session.namespace, task_type.c.name.in_(list(names)))
    if lock:
        query = query.order_by(task_type.c.id).with_for_update()
    return {row["name"]: dict(row) for row in session.connection.execute(query).mappings()}


def _insert(session: Session, names: Sequence[str], source: str, pool: str | None) -> None:
    if names:
        alike = {"namespace": session.namespace, "source": source, "pool": pool}
        rows = [{"name": name, **alike} for name in sorted(set(names))]
        session.connection.execute(insert_or_nothing(session, task_type), rows)


def insert_or_nothing(session: Session, table: sa.Table) -> Any:
    """INSERT … ON CONFLICT DO NOTHING in the database's dialect."""
    dialect = postgresql if session.postgresql else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def update_type(
    session: Session,
    row: Mapping[str, Any],
    declaration: Declaration,
    source: str,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Store what is declared, and `more` columns, where the row, which is locked, does not say so already."""
    changes = _changes(row, declaration, source, more)
    if changes:
        session.connection.execute(sa.update(task_type).where(task_type.c.id == row["id"]).values(changes))


def _changes(
    row: Mapping[str, Any], declaration: Declaration, source: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    said = {name: value for name, value in asdict(declaration.options).items() if value is not None}
    for name in ("max_concurrent_tasks", "description"):
        if getattr(declaration, name) is not None:
            said[name] = getattr(declaration, name)
    layers = {"code": encoding.decode(row["code_options"]), "resource": encoding.decode(row["resource_options"])}
    layers[source] = said
    changes = _effective({**layers["code"], **layers["resource"]})
    changes[f"{source}_options"] = encoding.encode(said, "options")
    if source == "resource":
        ruled = {"suspended": declaration.suspended, "pool": declaration.pool, "draining": False}
        changes |= {"source": source, **ruled, **(more or {})}
    return {name: value for name, value in changes.items() if row[name] != value}


def _effective(said: Mapping[str, Any]) -> dict[str, Any]:
    names = (*OPTION_NAMES, "max_concurrent_tasks", "description")
    return {name: micros(said.get(name)) if name in DURATIONS else said.get(name) for name in names}


@lru_cache(256)
def option_columns(options: Options) -> Mapping[str, Any]:
    """Options as they are stored: durations in microseconds."""
    given = {name: getattr(options, name) for name in OPTION_NAMES}
    return {name: micros(value) if name in DURATIONS else value for name, value in given.items()}


def options_of(row: Mapping[str, Any] | sa.RowMapping) -> Options:
    """The options that a row stores; None where it inherits."""
    stored: dict[str, Any] = {name: seconds(row[name]) if name in DURATIONS else row[name] for name in OPTION_NAMES}
    return Options(**stored)


@write
def pause_type(session: Session, name: str) -> None:
    """Hold back the tasks of a type until it is resumed; what runs goes on. Raises NotFound."""
    set_paused(session, _pausable(session, name), True)


@write
def resume_type(session: Session, name: str) -> None:
    """Let the tasks of a paused type go on. Raises NotFound."""
    set_paused(session, _pausable(session, name), False)


def _pausable(session: Session, name: str) -> Pausable:
    encoding.text(name, "type", longest=253)
    named = sa.and_(task_type.c.namespace == session.namespace, task_type.c.name == name)
    told = {"type": name, "namespace": session.namespace}
    return Pausable(task_type, named, NotFound("task type", name, session.namespace), "type", log, told)


@read
def types(session: Session) -> list[TaskType]:
    """The task types of the namespace, by name."""
    query = sa.select(task_type).where(task_type.c.namespace == session.namespace).order_by(task_type.c.name)
    return [_task_type(row) for row in session.connection.execute(query).mappings()]


@read
def type_named(session: Session, name: str) -> TaskType:
    """A task type. Raises InvalidInput, UnknownTaskType."""
    encoding.text(name, "type", longest=253)
    named = sa.and_(task_type.c.namespace == session.namespace, task_type.c.name == name)
    row = session.connection.execute(sa.select(task_type).where(named)).mappings().first()
    if row is None:
        raise UnknownTaskType(name, session.namespace)
    return _task_type(row)


def _task_type(row: sa.RowMapping) -> TaskType:
    return TaskType(
        id=row["id"],
        namespace=row["namespace"],
        name=row["name"],
        source=row["source"],
        description=row["description"],
        options=options_of(row),
        max_concurrent_tasks=row["max_concurrent_tasks"],
        paused=row["paused"] or row["suspended"],
        pool=row["pool"],
    )


@read
def limits_of(session: Session, type_ids: Sequence[int], pool: str | None, unbound: bool = False) -> dict[int, int | None]:
    """How many tasks of each type one worker may run at once; None for as many as it has slots.

    Types that are not bound to this worker's pool, or to none if it belongs to none, are left out: they are not its own.
    `unbound`: those that are bound to none are its own, too.
    """
    bound = task_type.c.pool.is_not_distinct_from(pool)
    own = sa.or_(bound, task_type.c.pool.is_(None)) if unbound else bound
    query = sa.select(task_type.c.id, task_type.c.max_concurrent_tasks).where(task_type.c.id.in_(type_ids), own)
    return {row.id: row.max_concurrent_tasks for row in session.connection.execute(query)}
