"""A worker pool, and a task type with workers of its own, remembers how its workers are scaled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OLDEST_CODE = "0.1.0"
SCHEMA = "fibflow"


def upgrade() -> None:
    schema = SCHEMA if op.get_context().dialect.name == "postgresql" else None
    for table in ("task_type", "worker_pool"):
        op.add_column(table, sa.Column("scaling", sa.Text()), schema=schema)
    version = sa.table("schema_version", sa.column("version"), sa.column("oldest_code"), schema=schema)
    op.execute(sa.update(version).values(version=revision, oldest_code=OLDEST_CODE))


def downgrade() -> None:
    raise NotImplementedError("former code works on this schema")
