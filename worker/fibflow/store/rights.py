"""Whether the role of an address may use fibflow's tables: asked before anything is started that would fail for want of it."""

from __future__ import annotations

import sqlalchemy as sa

from fibflow.errors import DatabaseError
from fibflow.store.database import Database, Session, read
from fibflow.store.tables import SCHEMA, metadata, schema_version

MISSING = sa.text("""
    SELECT current_user AS role, named.table, needed.right
    FROM unnest(CAST(:tables AS text[])) AS named("table")
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS needed("right", place)
    WHERE NOT has_table_privilege(current_user, :schema || '.' || named.table, needed.right)
    ORDER BY needed.place, named.table
""")
NOT_CALLED = sa.text("""
    SELECT current_user AS role, proname AS function
    FROM pg_proc
    WHERE pronamespace = CAST(:schema AS regnamespace) AND NOT has_function_privilege(current_user, oid, 'EXECUTE')
    ORDER BY proname
""")
"""The clock, and the CHECK of a task, are functions that are called as whoever reads or writes."""
ENTERS = sa.text("SELECT current_user AS role, has_schema_privilege(current_user, :schema, 'USAGE') AS enters")


def check_rights(url: str) -> None:
    """Raise DatabaseError, which says what is missing, unless the role at this address may work with a migrated database."""
    database = Database(url)
    try:
        if complaint := database.call(_complaint):
            raise DatabaseError(f"{complaint}; docs/database.md has the statements that grant it")
    finally:
        database.close()


@read
def _complaint(session: Session) -> str | None:
    if not session.postgresql:
        return None
    seen = session.connection.execute(ENTERS, {"schema": SCHEMA}).one()
    if not seen.enters:
        return f"the role {seen.role!r} lacks USAGE of the schema {SCHEMA}"
    tables = [table.name for table in metadata.tables.values() if table is not schema_version]
    if missing := session.connection.execute(MISSING, {"tables": tables, "schema": SCHEMA}).first():
        return f"the role {missing.role!r} lacks {missing.right} of the table {missing.table}"
    if uncalled := session.connection.execute(NOT_CALLED, {"schema": SCHEMA}).first():
        return f"the role {uncalled.role!r} lacks EXECUTE of the function {uncalled.function}"
    return None
