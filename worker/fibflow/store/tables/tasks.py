"""The tables of tasks, hot and final, which share most of their columns and CHECKs; and of what is told of tasks."""

from __future__ import annotations

import sqlalchemy as sa

from fibflow.store.tables.checks import in_one_function
from fibflow.store.tables.columns import (
    Bounded,
    Count,
    Id,
    Instant,
    Name,
    Outcome,
    Percent,
    Priority,
    identity,
    metadata,
    one_of,
    option_columns,
    partial_index,
)

State = Bounded("state", sa.Text(), one_of("VALUE", "scheduled", "ready", "running", "suspended", "paused"))
FinalStatus = Bounded("final_status", sa.Text(), one_of("VALUE", "completed", "permanently_failed", "cancelled"))
Became = Bounded("became", sa.Text(), one_of("VALUE", "pending", "permanently_failed", "paused"))


def task_columns() -> list[sa.Column[object]]:
    """What a task keeps through its whole life, hot or final."""
    return [
        sa.Column("type_id", Id, nullable=False),
        Count.column("stage", nullable=False, server_default="0"),
        Priority.column("priority", nullable=False),
        sa.Column("run_at", Instant, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("started_at", Instant),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        Count.column("failures", nullable=False, server_default="0"),
        Count.column("interruptions", nullable=False, server_default="0"),
        Outcome.column("last_outcome"),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("context", sa.LargeBinary),
        sa.Column("tag", sa.Text),
        *option_columns(),
        sa.Column("parent_id", Id),
        sa.Column("root_id", Id),
        sa.Column("generation", sa.Integer),
        sa.Column("spawned", sa.Integer),
        Count.column("children", nullable=False, server_default="0"),
        sa.Column("cron_id", Id),
        sa.Column("tick", Instant),
        sa.Column("worker_id", Id),
        sa.Column("suspend_reason", sa.Text),
        sa.Column("current_stage_name", sa.Text),
        sa.Column("progress_text", sa.Text),
        Percent.column("progress_percent"),
        sa.Column("last_event_type", Name),
        sa.Column("last_event_at", Instant),
    ]


def task_checks() -> list[sa.CheckConstraint]:
    """What is true of a task through its whole life."""
    return [
        sa.CheckConstraint("failures + interruptions <= attempt", name="failures_are_attempts"),
        sa.CheckConstraint("attempt > 0 OR last_outcome IS NULL", name="an_outcome_is_of_an_attempt"),
        sa.CheckConstraint("(parent_id IS NULL) = (generation IS NULL) AND generation > 0", name="a_child_has_a_generation"),
        sa.CheckConstraint("(parent_id IS NULL) = (root_id IS NULL)", name="a_child_has_a_root"),
        sa.CheckConstraint("parent_id < id AND root_id <= parent_id", name="parents_come_first"),
        sa.CheckConstraint(
            "(cron_id IS NULL) = (tick IS NULL) AND (cron_id IS NULL OR parent_id IS NULL)", name="a_tick_has_an_instant"
        ),
        sa.CheckConstraint(
            "(children = 0) = (spawned IS NULL) AND spawned BETWEEN 1 AND attempt", name="children_were_spawned"
        ),
        sa.CheckConstraint("(attempt = 0) = (started_at IS NULL)", name="started_by_an_attempt"),
    ]


task = sa.Table(
    "task",
    metadata,
    identity(),
    State.column("state", nullable=False),
    sa.Column("order_key", Instant, nullable=False),
    *task_columns(),
    Count.column("open_children", nullable=False, server_default="0"),
    sa.Column("claimed_at", Instant),
    sa.Column("deadline_at", Instant),
    sa.Column("trace", sa.Text),
    sa.CheckConstraint(
        "CASE state WHEN 'running' THEN (attempt > 0 AND worker_id IS NOT NULL AND deadline_at > claimed_at) IS TRUE"
        " ELSE coalesce(worker_id, claimed_at, deadline_at) IS NULL END",
        name="running_is_held",
    ),
    sa.CheckConstraint(
        "CASE state WHEN 'suspended' THEN attempt > 0 AND (open_children > 0) = (suspend_reason IS NULL)"
        " ELSE open_children = 0 AND suspend_reason IS NULL END",
        name="suspended_waits_for_something",
    ),
    sa.CheckConstraint("open_children <= children", name="open_children_are_children"),
    *task_checks(),
    sqlite_autoincrement=True,
    postgresql_with={
        "fillfactor": 80,
        "autovacuum_vacuum_scale_factor": "0.01",
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_vacuum_cost_delay": 0,
        "autovacuum_analyze_scale_factor": "0.05",
    },
)
in_one_function(task)
partial_index("task_claim", task.c.type_id, task.c.order_key, task.c.id, where="state = 'ready'")
partial_index("task_promote", task.c.run_at, where="state = 'scheduled'")
partial_index("task_owner", task.c.worker_id, where="state = 'running'")
partial_index("task_children", task.c.parent_id, where="parent_id IS NOT NULL")
partial_index("task_workflow", task.c.root_id, where="root_id IS NOT NULL")
partial_index("task_tick", task.c.cron_id, where="cron_id IS NOT NULL")
partial_index("task_suspended", task.c.id, where="state = 'suspended'")

task_final = sa.Table(
    "task_final",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    FinalStatus.column("status", nullable=False),
    *task_columns(),
    sa.Column("result", sa.Text),
    sa.Column("finished_at", Instant, nullable=False),
    sa.Column("trace", sa.Text),
    sa.CheckConstraint("result IS NULL OR status = 'completed'", name="only_success_has_a_result"),
    sa.CheckConstraint("error IS NOT NULL OR status <> 'permanently_failed'", name="a_failure_has_an_error"),
    sa.CheckConstraint("attempt > 0 OR status = 'cancelled'", name="ended_by_an_attempt"),
    sa.CheckConstraint("suspend_reason IS NULL", name="waits_for_nothing"),
    *task_checks(),
)
partial_index("task_final_children", task_final.c.parent_id, where="parent_id IS NOT NULL")
partial_index("task_final_workflow", task_final.c.root_id, where="root_id IS NOT NULL")
partial_index("task_final_failed", task_final.c.type_id, where="status = 'permanently_failed'")
partial_index("task_final_tag", task_final.c.tag, where="tag IS NOT NULL")
sa.Index("task_final_prune", task_final.c.finished_at, postgresql_using="brin")

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("task_id", Id, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    Count.column("stage", nullable=False),
    Count.column("failures", nullable=False),
    sa.Column("worker_id", Id, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant, nullable=False),
    Outcome.column("outcome", nullable=False),
    Became.column("became"),
    sa.Column("ended_by", Id),
    sa.Column("error", sa.Text),
    sa.CheckConstraint("attempt > 0 AND failures <= attempt", name="counts_rise"),
    sa.CheckConstraint(
        "(became IS NULL) = (outcome IN ('completed', 'suspended', 'cancelled'))",
        name="became_what_the_outcome_left_open",
    ),
)

event = sa.Table(
    "event",
    metadata,
    identity(),
    sa.Column("task_id", Id, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("phase", sa.SmallInteger, nullable=False),
    sa.Column("type", Name, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("from_status", Name),
    sa.Column("to_status", Name),
    sa.Column("worker_id", Id),
    sa.Column("message", sa.Text),
    sa.Column("metadata", sa.Text),
    sqlite_autoincrement=True,
)
sa.Index("event_of_task", event.c.task_id, event.c.attempt, event.c.phase, event.c.id)

stale_write = sa.Table(
    "stale_write",
    metadata,
    sa.Column("task_id", Id, primary_key=True, autoincrement=False),
    sa.Column("fence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("verb", Name, primary_key=True),
    sa.Column("worker_id", Id),
    sa.Column("at", Instant, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.CheckConstraint("fence >= 0 AND count > 0", name="counts_rise"),
)
