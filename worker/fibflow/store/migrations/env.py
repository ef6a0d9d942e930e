"""What alembic runs for every command: the migrations, on the connection that migrate.py hands over.

The connection is inside a transaction and holds the lock already; committing is migrate.py's.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from fibflow.store.tables import SCHEMA, metadata


def run(connection: sa.Connection) -> None:
    on_postgresql = connection.dialect.name == "postgresql"
    # IF NOT EXISTS would ask for the right to create schemas, even where there is nothing to create.
    if on_postgresql and not sa.inspect(connection).has_schema(SCHEMA):
        connection.execute(sa.schema.CreateSchema(SCHEMA))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        version_table_schema=SCHEMA if on_postgresql else None,
    )
    context.run_migrations()


run(context.config.attributes["connection"])
