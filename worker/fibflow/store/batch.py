"""Arrays as rows: many values in one parameter, on both databases.

PostgreSQL unnests one array a column, SQLite reads one JSON array of rows. Never executemany: one statement, one plan.
PostgreSQL's arrays are sent as the text of an array literal, which costs a tenth of what a driver takes that looks at
the type of every element.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from fibflow.store.database import Session

Columns = Mapping[str, sa.types.TypeEngine[Any]]


def rows(postgresql: bool, name: str, columns: Columns) -> sa.FromClause:
    """A FROM clause of the given columns, and `ord` from 1. Its parameters come from `values`."""
    if postgresql:
        arrays = [sa.cast(sa.bindparam(f"{name}_{column}", type_=sa.Text), ARRAY(kind)) for column, kind in columns.items()]
        return sa.func.unnest(*arrays).table_valued(*_typed(columns), with_ordinality="ord", name=name).render_derived()
    row = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("key", "value", name=f"{name}_json")
    picked = [
        sa.cast(sa.func.json_extract(row.c.value, f"$[{position}]"), kind).label(column)
        for position, (column, kind) in enumerate(columns.items())
    ]
    return sa.select(*picked, (row.c.key + 1).label("ord")).subquery(name)


def _typed(columns: Columns) -> list[sa.ColumnClause[Any]]:
    return [sa.column(column, kind) for column, kind in columns.items()]


def values(session: Session, name: str, columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The parameters of `rows`: equally long sequences, one a column, in the same order."""
    if session.postgresql:
        return {f"{name}_{column}": array(sequence) for column, sequence in columns.items()}
    return {name: orjson.dumps(list(zip(*columns.values(), strict=True))).decode()}


def array(sequence: Sequence[int | str | None]) -> str:
    """PostgreSQL's array literal of numbers or of texts, with or without NULL."""
    return "{" + ",".join([_element(value) for value in sequence]) + "}"


def _element(value: int | str | None) -> str:
    if value is None:
        return "NULL"
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def integers(sequence: Iterable[int]) -> str:
    """The same, of whole numbers alone: a third of the cost."""
    return "{" + ",".join(map(str, sequence)) + "}"
