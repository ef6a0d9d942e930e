"""What the tables are made of: their schema, their kinds of column, and the CHECKs and indexes that several have."""

from __future__ import annotations

import sqlalchemy as sa

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


OUTCOMES = ("completed", "failed", "timeout", "interrupted", "suspended", "cancelled")


def one_of(column: str, *values: str) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def option_checks() -> list[sa.CheckConstraint]:
    """The bounds of options, wherever a row has them."""
    return [
        sa.CheckConstraint("priority BETWEEN -20 AND 20", name="priority"),
        sa.CheckConstraint("timeout > 0", name="timeout"),
        sa.CheckConstraint("max_attempts > 0", name="max_attempts"),
        sa.CheckConstraint("backoff >= 0 AND backoff_factor >= 1 AND max_backoff >= 0", name="backoff"),
    ]


def partial_index(name: str, *columns: sa.Column[object], where: str) -> sa.Index:
    return sa.Index(name, *columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))
