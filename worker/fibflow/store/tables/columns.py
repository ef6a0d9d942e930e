"""What the tables are made of: their schema, their kinds of column, and the bounds and indexes that several have.

What one value may be is said by a `Bounded` kind, how the columns of a row go together by CHECKs. On PostgreSQL a bounded
kind is a domain: it is read once a connection and checked where a value is made, while all CHECKs of a table are read anew
by every statement that writes it, and checked for every row (docs/decisions/0005-turns.md; checks.py for those of `task`).
SQLite has no domains; there it is a CHECK, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN, CreateDomainType

SCHEMA = "fibflow"
metadata = sa.MetaData(
    schema=SCHEMA,
    naming_convention={"ck": "%(table_name)s_%(constraint_name)s", "pk": "%(table_name)s_pkey"},
)

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.BigInteger
Name = sa.Text


def identity() -> sa.Column[int]:
    return sa.Column("id", Id, sa.Identity(always=False), primary_key=True)


def one_of(column: str, *values: str) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


@dataclass(frozen=True)
class Bounded:
    """A kind of value within bounds: `check` is a condition on VALUE, which NULL never breaks."""

    name: str
    kind: sa.types.TypeEngine[Any]
    check: str

    @cached_property
    def type(self) -> sa.types.TypeEngine[Any]:
        """On PostgreSQL a domain, which is created before the tables."""
        domain = DOMAIN(self.name, self.kind, constraint_name=self.name, check=self.check, create_type=False, schema=SCHEMA)
        create = CreateDomainType(domain).execute_if(dialect="postgresql")
        sa.event.listen(metadata, "before_create", create)
        return self.kind.with_variant(domain, "postgresql")

    def column(self, name: str, **options: Any) -> sa.Column[Any]:
        """A column of this kind; its CHECK, for where there are no domains, waits for `add_bounds`."""
        check = sa.CheckConstraint(self.check.replace("VALUE", name), name=name).ddl_if(dialect="sqlite")
        return sa.Column(name, self.type, info={"bounded": self, "check": check}, **options)


def add_bounds() -> None:
    """Give the tables the bounds of their columns where there are no domains."""
    for table in metadata.tables.values():
        for column in table.c:
            if "check" in column.info:
                table.append_constraint(column.info["check"])


Priority = Bounded("priority", sa.SmallInteger(), "VALUE BETWEEN -20 AND 20")
Timeout = Bounded("timeout", sa.BigInteger(), "VALUE > 0")
Attempts = Bounded("max_attempts", sa.Integer(), "VALUE > 0")
Backoff = Bounded("backoff", sa.BigInteger(), "VALUE >= 0")
Factor = Bounded("backoff_factor", sa.Float(), "VALUE >= 1")
Count = Bounded("natural", sa.Integer(), "VALUE >= 0")
Percent = Bounded("percent", sa.SmallInteger(), "VALUE BETWEEN 0 AND 100")
Outcome = Bounded(
    "outcome", sa.Text(), one_of("VALUE", "completed", "failed", "timeout", "interrupted", "suspended", "cancelled")
)


def option_columns() -> list[sa.Column[Any]]:
    """Options, wherever a row has them; its priority aside, which a task always has."""
    return [
        Timeout.column("timeout"),
        Attempts.column("max_attempts"),
        Backoff.column("backoff"),
        Factor.column("backoff_factor"),
        Backoff.column("max_backoff"),
    ]


def partial_index(name: str, *columns: sa.Column[object], where: str) -> sa.Index:
    return sa.Index(name, *columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
