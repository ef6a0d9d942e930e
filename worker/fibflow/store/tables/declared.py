"""The tables of what is declared, by code or by a resource: task types, cron tasks with their ticks, worker pools."""

from __future__ import annotations

import sqlalchemy as sa

from fibflow.store.tables.columns import Id, Instant, Name, Priority, identity, metadata, one_of, option_columns

task_type = sa.Table(
    "task_type",
    metadata,
    identity(),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("source", Name, nullable=False),
    sa.Column("description", sa.Text),
    *option_columns(),
    Priority.column("priority"),
    sa.Column("max_concurrent_tasks", sa.Integer),
    sa.Column("code_options", sa.Text, nullable=False, server_default="{}"),
    sa.Column("resource_options", sa.Text, nullable=False, server_default="{}"),
    sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("resource", Name),
    sa.Column("deletion_policy", Name),
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("pool", Name),
    sa.Column("scaling", sa.Text),
    sa.UniqueConstraint("namespace", "name", name="task_type_by_name"),
    sa.UniqueConstraint("namespace", "resource", name="task_type_by_resource"),
    sa.CheckConstraint(one_of("source", "code", "resource"), name="source"),
    sa.CheckConstraint("resource IS NULL OR (source = 'resource' AND NOT draining)", name="a_resource_is_in_force"),
    sa.CheckConstraint(one_of("deletion_policy", "Retain", "Drain", "Cancel"), name="deletion_policy"),
    sa.CheckConstraint("resource IS NULL OR deletion_policy IS NOT NULL", name="a_resource_says_how_it_goes"),
    sa.CheckConstraint("max_concurrent_tasks > 0", name="max_concurrent_tasks"),
    sqlite_autoincrement=True,
)

cron_task = sa.Table(
    "cron_task",
    metadata,
    identity(),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("source", Name, nullable=False),
    sa.Column("type_id", Id, nullable=False),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("tag", sa.Text),
    *option_columns(),
    Priority.column("priority"),
    sa.Column("missed_run_policy", Name, nullable=False),
    sa.Column("concurrency_policy", Name, nullable=False),
    sa.Column("pause_on_failure", sa.Boolean, nullable=False),
    sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("paused_reason", sa.Text),
    sa.Column("decided_through", Instant, nullable=False),
    sa.Column("next_at", Instant, nullable=False),
    sa.UniqueConstraint("namespace", "name", name="cron_task_by_name"),
    sa.CheckConstraint(one_of("source", "code", "resource"), name="source"),
    sa.CheckConstraint("next_at > decided_through", name="next_is_undecided"),
    sa.CheckConstraint("paused OR paused_reason IS NULL", name="paused_for_a_reason"),
    sa.CheckConstraint(one_of("missed_run_policy", "Skip", "RunLatest"), name="missed_run_policy"),
    sa.CheckConstraint(one_of("concurrency_policy", "Allow", "Forbid"), name="concurrency_policy"),
    sqlite_autoincrement=True,
)
sa.Index(
    "cron_task_due",
    cron_task.c.next_at,
    postgresql_where=sa.text("NOT paused AND NOT suspended"),
    sqlite_where=sa.text("NOT paused AND NOT suspended"),
)

cron_tick = sa.Table(
    "cron_tick",
    metadata,
    sa.Column("cron_id", Id, primary_key=True, autoincrement=False),
    sa.Column("tick", Instant, primary_key=True, autoincrement=False),
    sa.Column("through", Instant, nullable=False),
    sa.Column("decision", Name, nullable=False),
    sa.Column("reason", Name),
    sa.Column("task_id", Id),
    sa.Column("count", sa.Integer),
    sa.Column("decided_at", Instant, nullable=False),
    sa.CheckConstraint(one_of("decision", "run", "skip"), name="decision"),
    sa.CheckConstraint("(decision = 'run') = (task_id IS NOT NULL)", name="a_run_has_a_task"),
    sa.CheckConstraint("(decision = 'skip') = (reason IS NOT NULL)", name="a_skip_has_a_reason"),
    sa.CheckConstraint("through >= tick AND count > 0", name="range"),
    sa.CheckConstraint(
        "decision = 'skip' OR (through = tick AND count IS NOT NULL AND count = 1)", name="a_run_is_one_instant"
    ),
)

worker_pool = sa.Table(
    "worker_pool",
    metadata,
    sa.Column("namespace", Name, primary_key=True),
    sa.Column("name", Name, primary_key=True),
    sa.Column("app", sa.Text, nullable=False),
    sa.Column("image", sa.Text),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("replicas", sa.Integer, nullable=False),
    sa.Column("drain", Instant, nullable=False),
    sa.Column("scaling", sa.Text),
    sa.CheckConstraint("slots > 0 AND replicas >= 0 AND drain >= 0", name="sizes"),
)
