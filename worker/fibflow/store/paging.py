"""Pages: a part of an ordered SELECT, and how long the whole of it is. What is in the rows is not known here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa

from fibflow import encoding
from fibflow.errors import InvalidInput
from fibflow.records import Page
from fibflow.store.clock import from_datetime
from fibflow.store.database import Session

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Where = list[sa.ColumnElement[bool]]

LONGEST_PAGE = 10_000
HIGHEST = (1 << 63) - 1
"""The highest id, offset or instant that a database can hold."""


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list, and from which end."""

    limit: int | None
    offset: int
    descending: bool

    @property
    def end(self) -> int | None:
        """How many rows of the list the part needs; None for all."""
        return None if self.limit is None else self.offset + self.limit

    def ordered(self, *keys: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
        return [key.desc() if self.descending else key.asc() for key in keys]


def paging(limit: int | None, offset: int, order: str) -> Paging:
    """The part of a list that somebody asks for; a limit of None asks for all of it.

    Raises InvalidInput for a limit outside 1 to 10000, a negative offset, an order that is not asc or desc.
    """
    if limit is not None:
        encoding.number(limit, "limit", 1, LONGEST_PAGE, whole=True)
    encoding.number(offset, "offset", 0, HIGHEST - LONGEST_PAGE, whole=True)
    if order not in ("asc", "desc"):
        raise InvalidInput("order", order, "is not an order; use asc or desc")
    return Paging(limit, offset, order == "desc")


def page(session: Session, rows: sa.FromClause, keys: Sequence[str], part: Paging, item: Callable[[sa.Row[Any]], T]) -> Page[T]:
    """The part of the rows in the order of their keys, each made an item."""
    ordered = sa.select(rows).order_by(*part.ordered(*(rows.c[key] for key in keys)))
    found = session.connection.execute(cut(ordered, part.limit, part.offset)).all()
    return Page([item(row) for row in found], total(session, rows), part.limit, part.offset)


def cut(query: sa.Select[Any], limit: int | None, offset: int = 0) -> sa.Select[Any]:
    """The query's rows from `offset` on, at most `limit`."""
    started = query.offset(offset) if offset else query
    return started if limit is None else started.limit(limit)


def total(session: Session, rows: sa.FromClause) -> int:
    """How many rows there are."""
    return session.connection.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one()


def equal(column: sa.ColumnElement[Any], value: object) -> Where:
    """A filter that None leaves out."""
    return [] if value is None else [column == value]


def between(column: sa.ColumnElement[Any], prefix: str, after: datetime | None, before: datetime | None) -> Where:
    """From `after` to `before`, both included; aware datetimes. Raises InvalidInput, which names them with the prefix."""
    where: Where = []
    if after is not None:
        where.append(column >= from_datetime(encoding.aware(after, f"{prefix}after")))
    if before is not None:
        where.append(column <= from_datetime(encoding.aware(before, f"{prefix}before")))
    return where


def member(kind: type[E], value: object, field: str) -> E:
    """A value of an enumeration. Raises InvalidInput, which lists them."""
    try:
        return kind(str(value))
    except Exception:  # ValueError, or whatever an object raises that cannot be shown
        raise InvalidInput(field, value, f"is not one of {', '.join(kind)}") from None


def identity(value: object, field: str = "task_id") -> int:
    """An id that a database can hold. Raises InvalidInput."""
    return int(encoding.number(value, field, 0, HIGHEST, whole=True))


def optional_identity(value: object, field: str) -> int | None:
    """An id, or None."""
    return None if value is None else identity(value, field)


def optional_member(kind: type[E], value: object, field: str) -> E | None:
    """A value of an enumeration, or None."""
    return None if value is None else member(kind, value, field)
