"""Expand: a worker's `host` is also there as `machine`; tasks and attempts get a column that nobody asks for yet."""

import sqlalchemy as sa
from alembic import op

revision = "NUMBER"
down_revision = "NEWEST"
OLDEST_CODE = "FORMER"

ALIKE = """
CREATE FUNCTION fibflow.alike() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.machine := coalesce(NEW.machine, NEW.host);
    NEW.host := NEW.machine;
    RETURN NEW;
END
$$
"""


def upgrade() -> None:
    op.add_column("worker", sa.Column("machine", sa.Text()), schema="fibflow")
    op.execute("UPDATE fibflow.worker SET machine = host")
    op.execute(ALIKE)
    op.execute("CREATE TRIGGER alike BEFORE INSERT ON fibflow.worker FOR EACH ROW EXECUTE FUNCTION fibflow.alike()")
    for table in ("task", "task_final", "attempt"):
        op.add_column(table, sa.Column("shard", sa.SmallInteger(), server_default="0", nullable=False), schema="fibflow")
    op.execute(f"UPDATE fibflow.schema_version SET version = '{revision}', oldest_code = '{OLDEST_CODE}'")
