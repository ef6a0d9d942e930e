"""Contract: nobody reads a worker's `host` any longer."""

from alembic import op

revision = "NUMBER"
down_revision = "NEWEST"
OLDEST_CODE = "FORMER"


def upgrade() -> None:
    op.execute("DROP TRIGGER alike ON fibflow.worker")
    op.execute("DROP FUNCTION fibflow.alike()")
    op.alter_column("worker", "machine", nullable=False, schema="fibflow")
    op.drop_column("worker", "host", schema="fibflow")
    op.execute(f"UPDATE fibflow.schema_version SET version = '{revision}', oldest_code = '{OLDEST_CODE}'")
