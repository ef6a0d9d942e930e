"""On PostgreSQL one function checks a task, where many CHECKs were read anew for every statement; it refuses the same."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLDEST_CODE = "0.1.0"
SCHEMA = "fibflow"

COLUMNS = """
id BIGINT, state TEXT, started_at BIGINT, attempt INTEGER, failures INTEGER, interruptions INTEGER, last_outcome TEXT,
parent_id BIGINT, root_id BIGINT, generation INTEGER, spawned INTEGER, children INTEGER, cron_id BIGINT, tick BIGINT,
worker_id BIGINT, suspend_reason TEXT, open_children INTEGER, claimed_at BIGINT, deadline_at BIGINT
"""

CHECKS = {
    "a_child_has_a_generation": "(parent_id IS NULL) = (generation IS NULL) AND generation > 0",
    "a_child_has_a_root": "(parent_id IS NULL) = (root_id IS NULL)",
    "a_tick_has_an_instant": "(cron_id IS NULL) = (tick IS NULL) AND (cron_id IS NULL OR parent_id IS NULL)",
    "an_outcome_is_of_an_attempt": "attempt > 0 OR last_outcome IS NULL",
    "children_were_spawned": "(children = 0) = (spawned IS NULL) AND spawned BETWEEN 1 AND attempt",
    "failures_are_attempts": "failures + interruptions <= attempt",
    "open_children_are_children": "open_children <= children",
    "parents_come_first": "parent_id < id AND root_id <= parent_id",
    "running_is_held": (
        "CASE state WHEN 'running' THEN (attempt > 0 AND worker_id IS NOT NULL AND deadline_at > claimed_at) IS TRUE"
        " ELSE coalesce(worker_id, claimed_at, deadline_at) IS NULL END"
    ),
    "started_by_an_attempt": "(attempt = 0) = (started_at IS NULL)",
    "suspended_waits_for_something": (
        "CASE state WHEN 'suspended' THEN attempt > 0 AND (open_children > 0) = (suspend_reason IS NULL)"
        " ELSE open_children = 0 AND suspend_reason IS NULL END"
    ),
}

FUNCTION = """
CREATE FUNCTION fibflow.task_is_possible({parameters}) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
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
    MESSAGE = format('new row for relation "task" violates check constraint "%s"', broken),
    SCHEMA = 'fibflow', TABLE = 'task', CONSTRAINT = broken;
END
$$
"""


def upgrade() -> None:
    schema = SCHEMA if op.get_context().dialect.name == "postgresql" else None
    if schema:
        _check_by_a_function()
    version = sa.table("schema_version", sa.column("version"), sa.column("oldest_code"), schema=schema)
    op.execute(sa.update(version).values(version=revision, oldest_code=OLDEST_CODE))


def _check_by_a_function() -> None:
    columns = [column.split() for column in COLUMNS.split(",")]
    function = FUNCTION.format(
        parameters=", ".join(f"{name} {kind}" for name, kind in columns),
        all_hold="\n    AND ".join(f"({check}) IS NOT FALSE" for check in CHECKS.values()),
        cases="\n    ".join(f"WHEN ({check}) IS FALSE THEN 'task_{name}'" for name, check in CHECKS.items()),
    )
    op.get_bind().exec_driver_sql(function.replace("%", "%%"))
    for name in CHECKS:
        op.drop_constraint(op.f(f"task_{name}"), "task", schema=SCHEMA)
    call = f"fibflow.task_is_possible({', '.join(name for name, _ in columns)})"
    op.create_check_constraint(op.f("task_is_possible"), "task", call, schema=SCHEMA)


def downgrade() -> None:
    raise NotImplementedError("former code works on this schema")
