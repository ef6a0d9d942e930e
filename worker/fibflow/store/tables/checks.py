"""The CHECKs of a table as one function, for a table that is written a row at a time.

PostgreSQL reads the CHECKs of a table anew, as text, for every statement that writes it; a function it reads once a
connection. A row costs a little more that way, a statement much less (docs/decisions/0005-turns.md).
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from fibflow.store.tables.columns import SCHEMA, metadata

FUNCTION = """
CREATE FUNCTION {function}({parameters}) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  broken text;
BEGIN
  IF {all_hold} THEN
    RETURN true;
  END IF;
  broken := CASE
    {cases}
  END;
  RAISE check_violation USING
    MESSAGE = format('new row for relation "{table}" violates check constraint "%s"', broken),
    SCHEMA = '{schema}', TABLE = '{table}', CONSTRAINT = broken;
END
$$
"""


def in_one_function(table: sa.Table) -> None:
    """Have PostgreSQL ask `<table>_is_possible` instead of each CHECK; what is broken goes by the same name as before."""
    checks = [each for each in table.constraints if isinstance(each, sa.CheckConstraint)]
    checks.sort(key=lambda each: str(each.name))
    for check in checks:
        check.ddl_if(dialect="sqlite")
    said = " ".join(str(check.sqltext) for check in checks)
    columns = [column for column in table.c if re.search(rf"\b{column.name}\b", said)]
    function = f"{SCHEMA}.{table.name}_is_possible"
    text = FUNCTION.format(
        function=function,
        parameters=", ".join(f"{column.name} {_kind(column)}" for column in columns),
        all_hold="\n    AND ".join(f"({check.sqltext}) IS NOT FALSE" for check in checks),
        cases="\n    ".join(f"WHEN ({check.sqltext}) IS FALSE THEN '{check.name}'" for check in checks),
        schema=SCHEMA,
        table=table.name,
    )
    create = sa.DDL(text.replace("%", "%%"))  # type: ignore[no-untyped-call]
    sa.event.listen(metadata, "before_create", create.execute_if(dialect="postgresql"))
    call = f"{function}({', '.join(column.name for column in columns)})"
    table.append_constraint(sa.CheckConstraint(call, name="is_possible").ddl_if(dialect="postgresql"))


def _kind(column: sa.Column[object]) -> str:
    """A column's type, without the bounds of a domain."""
    bounded = column.info.get("bounded")
    return (bounded.kind if bounded else column.type).compile(postgresql.dialect())  # type: ignore[no-untyped-call]
