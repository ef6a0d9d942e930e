"""The first schema: every table, index, domain and CHECK, and PostgreSQL's clock.

Written out rather than taken from tables/, which goes on changing while a migration never does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import DOMAIN

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OLDEST_CODE = "0.1.0"
SCHEMA = "fibflow"
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.BigInteger()

CLOCK = """
CREATE FUNCTION fibflow.fibflow_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint
         + coalesce(nullif(current_setting('fibflow.clock_offset', true), ''), '0')::bigint
$$
"""

OUTCOMES = "'completed', 'failed', 'timeout', 'interrupted', 'suspended', 'cancelled'"
BOUNDS: dict[str, tuple[sa.types.TypeEngine[Any], str]] = {
    "backoff": (sa.BigInteger(), "VALUE >= 0"),
    "backoff_factor": (sa.Float(), "VALUE >= 1"),
    "became": (sa.Text(), "VALUE IN ('pending', 'permanently_failed', 'paused')"),
    "final_status": (sa.Text(), "VALUE IN ('completed', 'permanently_failed', 'cancelled')"),
    "max_attempts": (sa.Integer(), "VALUE > 0"),
    "natural": (sa.Integer(), "VALUE >= 0"),
    "outcome": (sa.Text(), f"VALUE IN ({OUTCOMES})"),
    "percent": (sa.SmallInteger(), "VALUE BETWEEN 0 AND 100"),
    "priority": (sa.SmallInteger(), "VALUE BETWEEN -20 AND 20"),
    "state": (sa.Text(), "VALUE IN ('scheduled', 'ready', 'running', 'suspended', 'paused')"),
    "timeout": (sa.BigInteger(), "VALUE > 0"),
}
"""What one value may be: a domain on PostgreSQL, a CHECK of each column on SQLite."""


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(CLOCK)
        for name, (kind, check) in BOUNDS.items():
            domain = DOMAIN(name, kind, constraint_name=name, check=check, schema=SCHEMA)
            domain.create(op.get_bind(), checkfirst=False)
    for create in TABLES:
        create()


def downgrade() -> None:
    raise NotImplementedError("there is nothing before the first schema; restore a backup")


def _task_type() -> None:
    _create_table(
        "task_type",
        sa.Column("id", ID, sa.Identity(always=False), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        _bounded("timeout"),
        _bounded("max_attempts"),
        _bounded("backoff"),
        _bounded("backoff_factor"),
        _bounded("max_backoff", "backoff"),
        _bounded("priority"),
        sa.Column("max_concurrent_tasks", sa.Integer()),
        sa.Column("code_options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("resource_options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("suspended", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("resource", sa.Text()),
        sa.Column("deletion_policy", sa.Text()),
        sa.Column("draining", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("pool", sa.Text()),
        sa.CheckConstraint(
            "resource IS NULL OR (source = 'resource' AND NOT draining)", name=op.f("task_type_a_resource_is_in_force")
        ),
        sa.CheckConstraint(
            "resource IS NULL OR deletion_policy IS NOT NULL", name=op.f("task_type_a_resource_says_how_it_goes")
        ),
        sa.CheckConstraint("deletion_policy IN ('Retain', 'Drain', 'Cancel')", name=op.f("task_type_deletion_policy")),
        sa.CheckConstraint("max_concurrent_tasks > 0", name=op.f("task_type_max_concurrent_tasks")),
        sa.CheckConstraint("source IN ('code', 'resource')", name=op.f("task_type_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("task_type_pkey")),
        sa.UniqueConstraint("namespace", "name", name="task_type_by_name"),
        sa.UniqueConstraint("namespace", "resource", name="task_type_by_resource"),
        sqlite_autoincrement=True,
    )


def _cron_task() -> None:
    _create_table(
        "cron_task",
        sa.Column("id", ID, sa.Identity(always=False), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("type_id", ID, nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text()),
        _bounded("timeout"),
        _bounded("max_attempts"),
        _bounded("backoff"),
        _bounded("backoff_factor"),
        _bounded("max_backoff", "backoff"),
        _bounded("priority"),
        sa.Column("missed_run_policy", sa.Text(), nullable=False),
        sa.Column("concurrency_policy", sa.Text(), nullable=False),
        sa.Column("pause_on_failure", sa.Boolean(), nullable=False),
        sa.Column("suspended", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("paused_reason", sa.Text()),
        sa.Column("decided_through", INSTANT, nullable=False),
        sa.Column("next_at", INSTANT, nullable=False),
        sa.CheckConstraint("concurrency_policy IN ('Allow', 'Forbid')", name=op.f("cron_task_concurrency_policy")),
        sa.CheckConstraint("missed_run_policy IN ('Skip', 'RunLatest')", name=op.f("cron_task_missed_run_policy")),
        sa.CheckConstraint("next_at > decided_through", name=op.f("cron_task_next_is_undecided")),
        sa.CheckConstraint("paused OR paused_reason IS NULL", name=op.f("cron_task_paused_for_a_reason")),
        sa.CheckConstraint("source IN ('code', 'resource')", name=op.f("cron_task_source")),
        sa.PrimaryKeyConstraint("id", name=op.f("cron_task_pkey")),
        sa.UniqueConstraint("namespace", "name", name="cron_task_by_name"),
        sqlite_autoincrement=True,
    )
    _partial_index("cron_task_due", "cron_task", ["next_at"], "NOT paused AND NOT suspended")


def _cron_tick() -> None:
    _create_table(
        "cron_tick",
        sa.Column("cron_id", ID, autoincrement=False, nullable=False),
        sa.Column("tick", INSTANT, autoincrement=False, nullable=False),
        sa.Column("through", INSTANT, nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("task_id", ID),
        sa.Column("count", sa.Integer()),
        sa.Column("decided_at", INSTANT, nullable=False),
        sa.CheckConstraint("(decision = 'run') = (task_id IS NOT NULL)", name=op.f("cron_tick_a_run_has_a_task")),
        sa.CheckConstraint("(decision = 'skip') = (reason IS NOT NULL)", name=op.f("cron_tick_a_skip_has_a_reason")),
        sa.CheckConstraint("decision IN ('run', 'skip')", name=op.f("cron_tick_decision")),
        sa.CheckConstraint(
            "decision = 'skip' OR (through = tick AND count IS NOT NULL AND count = 1)",
            name=op.f("cron_tick_a_run_is_one_instant"),
        ),
        sa.CheckConstraint("through >= tick AND count > 0", name=op.f("cron_tick_range")),
        sa.PrimaryKeyConstraint("cron_id", "tick", name=op.f("cron_tick_pkey")),
    )


def _task() -> None:
    _create_table(
        "task",
        sa.Column("id", ID, sa.Identity(always=False), nullable=False),
        _bounded("state", nullable=False),
        sa.Column("order_key", INSTANT, nullable=False),
        *_columns_of_a_task(),
        _bounded("open_children", "natural", server_default="0", nullable=False),
        sa.Column("claimed_at", INSTANT),
        sa.Column("deadline_at", INSTANT),
        sa.CheckConstraint(
            "CASE state WHEN 'running' THEN (attempt > 0 AND worker_id IS NOT NULL AND deadline_at > claimed_at) IS TRUE"
            " ELSE coalesce(worker_id, claimed_at, deadline_at) IS NULL END",
            name=op.f("task_running_is_held"),
        ),
        sa.CheckConstraint(
            "CASE state WHEN 'suspended' THEN attempt > 0 AND (open_children > 0) = (suspend_reason IS NULL)"
            " ELSE open_children = 0 AND suspend_reason IS NULL END",
            name=op.f("task_suspended_waits_for_something"),
        ),
        *_checks_of_a_task("task"),
        sa.CheckConstraint("open_children <= children", name=op.f("task_open_children_are_children")),
        sa.PrimaryKeyConstraint("id", name=op.f("task_pkey")),
        postgresql_with={
            "fillfactor": 80,
            "autovacuum_vacuum_scale_factor": "0.01",
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_vacuum_cost_delay": 0,
            "autovacuum_analyze_scale_factor": "0.05",
        },
        sqlite_autoincrement=True,
    )
    _partial_index("task_children", "task", ["parent_id"], "parent_id IS NOT NULL")
    _partial_index("task_claim", "task", ["type_id", "order_key", "id"], "state = 'ready'")
    _partial_index("task_owner", "task", ["worker_id"], "state = 'running'")
    _partial_index("task_promote", "task", ["run_at"], "state = 'scheduled'")
    _partial_index("task_suspended", "task", ["id"], "state = 'suspended'")
    _partial_index("task_tick", "task", ["cron_id"], "cron_id IS NOT NULL")
    _partial_index("task_workflow", "task", ["root_id"], "root_id IS NOT NULL")


def _task_final() -> None:
    _create_table(
        "task_final",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        _bounded("status", "final_status", nullable=False),
        *_columns_of_a_task(),
        sa.Column("result", sa.Text()),
        sa.Column("finished_at", INSTANT, nullable=False),
        sa.CheckConstraint("attempt > 0 OR status = 'cancelled'", name=op.f("task_final_ended_by_an_attempt")),
        sa.CheckConstraint(
            "error IS NOT NULL OR status <> 'permanently_failed'", name=op.f("task_final_a_failure_has_an_error")
        ),
        sa.CheckConstraint("result IS NULL OR status = 'completed'", name=op.f("task_final_only_success_has_a_result")),
        sa.CheckConstraint("suspend_reason IS NULL", name=op.f("task_final_waits_for_nothing")),
        *_checks_of_a_task("task_final"),
        sa.PrimaryKeyConstraint("id", name=op.f("task_final_pkey")),
    )
    _partial_index("task_final_children", "task_final", ["parent_id"], "parent_id IS NOT NULL")
    op.create_index("task_final_prune", "task_final", ["finished_at"], schema=SCHEMA, postgresql_using="brin")
    _partial_index("task_final_failed", "task_final", ["type_id"], "status = 'permanently_failed'")
    _partial_index("task_final_tag", "task_final", ["tag"], "tag IS NOT NULL")
    _partial_index("task_final_workflow", "task_final", ["root_id"], "root_id IS NOT NULL")


def _attempt() -> None:
    _create_table(
        "attempt",
        sa.Column("task_id", ID, autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        _bounded("stage", "natural", nullable=False),
        _bounded("failures", "natural", nullable=False),
        sa.Column("worker_id", ID, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT, nullable=False),
        _bounded("outcome", nullable=False),
        _bounded("became"),
        sa.Column("ended_by", ID),
        sa.Column("error", sa.Text()),
        sa.CheckConstraint(
            "(became IS NULL) = (outcome IN ('completed', 'suspended', 'cancelled'))",
            name=op.f("attempt_became_what_the_outcome_left_open"),
        ),
        sa.CheckConstraint("attempt > 0 AND failures <= attempt", name=op.f("attempt_counts_rise")),
        sa.PrimaryKeyConstraint("task_id", "attempt", name=op.f("attempt_pkey")),
    )


def _event() -> None:
    _create_table(
        "event",
        sa.Column("id", ID, sa.Identity(always=False), nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("phase", sa.SmallInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("from_status", sa.Text()),
        sa.Column("to_status", sa.Text()),
        sa.Column("worker_id", ID),
        sa.Column("message", sa.Text()),
        sa.Column("metadata", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("event_pkey")),
        sqlite_autoincrement=True,
    )
    op.create_index("event_of_task", "event", ["task_id", "attempt", "phase", "id"], schema=SCHEMA)


def _stale_write() -> None:
    _create_table(
        "stale_write",
        sa.Column("task_id", ID, autoincrement=False, nullable=False),
        sa.Column("fence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("worker_id", ID),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.CheckConstraint("fence >= 0 AND count > 0", name=op.f("stale_write_counts_rise")),
        sa.PrimaryKeyConstraint("task_id", "fence", "verb", name=op.f("stale_write_pkey")),
    )


def _worker() -> None:
    _create_table(
        "worker",
        sa.Column("id", ID, sa.Identity(always=False), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("pod_id", sa.Text()),
        sa.Column("pod_uid", sa.Text()),
        sa.Column("pool", sa.Text()),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("draining", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("handlers", sa.Text(), server_default="[]", nullable=False),
        sa.Column("process_started_at", INSTANT),
        sa.Column("heartbeat", INSTANT),
        sa.Column("lease", INSTANT, nullable=False),
        sa.Column("registered_at", INSTANT, nullable=False),
        sa.Column("renewed_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("ended_at", INSTANT),
        sa.Column("ended_by", ID),
        sa.CheckConstraint("(status = 'active') = (ended_at IS NULL)", name=op.f("worker_active_has_not_ended")),
        sa.CheckConstraint("ended_by IS NULL OR status IN ('reaped', 'superseded')", name=op.f("worker_ended_by_another")),
        sa.CheckConstraint("lease > 0 AND slots > 0", name=op.f("worker_lease")),
        sa.CheckConstraint("status IN ('active', 'stopped', 'reaped', 'superseded')", name=op.f("worker_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("worker_pkey")),
        postgresql_with={"fillfactor": 50},
        sqlite_autoincrement=True,
    )
    _partial_index(
        "worker_identity", "worker", ["namespace", "pod_id"], "status = 'active' AND pod_id IS NOT NULL", unique=True
    )
    _partial_index("worker_lease", "worker", ["expires_at"], "status = 'active'")
    _partial_index("worker_pod", "worker", ["pod_uid"], "status = 'active' AND pod_uid IS NOT NULL")


def _fenced_pod() -> None:
    _create_table(
        "fenced_pod",
        sa.Column("pod_uid", sa.Text(), nullable=False),
        sa.Column("fenced_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("pod_uid", name=op.f("fenced_pod_pkey")),
    )


def _worker_pool() -> None:
    _create_table(
        "worker_pool",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("image", sa.Text()),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("drain", INSTANT, nullable=False),
        sa.CheckConstraint("slots > 0 AND replicas >= 0 AND drain >= 0", name=op.f("worker_pool_sizes")),
        sa.PrimaryKeyConstraint("namespace", "name", name=op.f("worker_pool_pkey")),
    )


def _installation() -> None:
    _create_table(
        "installation",
        sa.Column("one", sa.Boolean(), autoincrement=False, server_default=sa.true(), nullable=False),
        sa.Column("installation", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("taken_at", INSTANT, nullable=False),
        sa.Column("refused", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("epoch > 0 AND refused >= 0", name=op.f("installation_counts_rise")),
        sa.CheckConstraint("one", name=op.f("installation_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("installation_pkey")),
    )


def _schema_version() -> None:
    table = _create_table(
        "schema_version",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("oldest_code", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("schema_version_pkey")),
    )
    op.bulk_insert(table, [{"version": revision, "oldest_code": OLDEST_CODE}])


def _columns_of_a_task() -> list[sa.Column[Any]]:
    return [
        sa.Column("type_id", ID, nullable=False),
        _bounded("stage", "natural", server_default="0", nullable=False),
        _bounded("priority", nullable=False),
        sa.Column("run_at", INSTANT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        _bounded("failures", "natural", server_default="0", nullable=False),
        _bounded("interruptions", "natural", server_default="0", nullable=False),
        _bounded("last_outcome", "outcome"),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("context", sa.LargeBinary()),
        sa.Column("tag", sa.Text()),
        _bounded("timeout"),
        _bounded("max_attempts"),
        _bounded("backoff"),
        _bounded("backoff_factor"),
        _bounded("max_backoff", "backoff"),
        sa.Column("parent_id", ID),
        sa.Column("root_id", ID),
        sa.Column("generation", sa.Integer()),
        sa.Column("spawned", sa.Integer()),
        _bounded("children", "natural", server_default="0", nullable=False),
        sa.Column("cron_id", ID),
        sa.Column("tick", INSTANT),
        sa.Column("worker_id", ID),
        sa.Column("suspend_reason", sa.Text()),
        sa.Column("current_stage_name", sa.Text()),
        sa.Column("progress_text", sa.Text()),
        _bounded("progress_percent", "percent"),
        sa.Column("last_event_type", sa.Text()),
        sa.Column("last_event_at", INSTANT),
    ]


def _checks_of_a_task(table: str) -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint("(attempt = 0) = (started_at IS NULL)", name=op.f(f"{table}_started_by_an_attempt")),
        sa.CheckConstraint(
            "(cron_id IS NULL) = (tick IS NULL) AND (cron_id IS NULL OR parent_id IS NULL)",
            name=op.f(f"{table}_a_tick_has_an_instant"),
        ),
        sa.CheckConstraint(
            "(parent_id IS NULL) = (generation IS NULL) AND generation > 0", name=op.f(f"{table}_a_child_has_a_generation")
        ),
        sa.CheckConstraint(
            "(children = 0) = (spawned IS NULL) AND spawned BETWEEN 1 AND attempt",
            name=op.f(f"{table}_children_were_spawned"),
        ),
        sa.CheckConstraint("(parent_id IS NULL) = (root_id IS NULL)", name=op.f(f"{table}_a_child_has_a_root")),
        sa.CheckConstraint("attempt > 0 OR last_outcome IS NULL", name=op.f(f"{table}_an_outcome_is_of_an_attempt")),
        sa.CheckConstraint("failures + interruptions <= attempt", name=op.f(f"{table}_failures_are_attempts")),
        sa.CheckConstraint("parent_id < id AND root_id <= parent_id", name=op.f(f"{table}_parents_come_first")),
    ]


def _bounded(name: str, bounds: str | None = None, **options: Any) -> sa.Column[Any]:
    """A column of a kind that has bounds; of its own name, if no other is given."""
    kind, check = BOUNDS[bounds or name]
    domain = DOMAIN(bounds or name, kind, create_type=False, schema=SCHEMA)
    column = sa.Column(name, kind.with_variant(domain, "postgresql"), **options)
    column.info["check"] = sa.CheckConstraint(check.replace("VALUE", name))
    return column


def _create_table(name: str, *parts: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    return op.create_table(name, *parts, *_bounds(name, parts), schema=SCHEMA, **options)


def _bounds(table: str, parts: tuple[sa.schema.SchemaItem, ...]) -> Iterator[sa.CheckConstraint]:
    if op.get_context().dialect.name == "sqlite":
        for column in parts:
            if isinstance(column, sa.Column) and (check := column.info.get("check")) is not None:
                check.name = op.f(f"{table}_{column.name}")
                yield check


def _partial_index(name: str, table: str, columns: list[str], where: str, unique: bool = False) -> None:
    predicate = sa.text(where)
    op.create_index(name, table, columns, unique=unique, schema=SCHEMA, postgresql_where=predicate, sqlite_where=predicate)


TABLES = (
    _task_type,
    _cron_task,
    _cron_tick,
    _task,
    _task_final,
    _attempt,
    _event,
    _stale_write,
    _worker,
    _fenced_pod,
    _worker_pool,
    _installation,
    _schema_version,
)
