"""The tables, their CHECKs and their indexes: what the database itself refuses, and how each scan is served.

`task` holds only what is not final and stays small for ever; a task that ends moves to `task_final`. An attempt's row is
written when it ends; the open attempt is the hot row itself (worker_id, claimed_at, deadline_at, and `attempt`, which is
the fence). Events that follow from a task and its attempts are not stored; reading derives them (derived.py).

Times and durations are microseconds (BIGINT). An option that is NULL means the default of model.py. PostgreSQL keeps all
of it in the schema `fibflow`; SQLite has no schemas and uses the bare names. `state` is stored finer than the status that
people see: `scheduled` and `ready` are both pending, so that only ready rows are in the claim's index.

The migrations build exactly this (a test compares them).
"""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA = "fibflow"
metadata = sa.MetaData(
    schema=SCHEMA,
    naming_convention={"ck": "%(table_name)s_%(constraint_name)s", "pk": "%(table_name)s_pkey"},
)

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.BigInteger
Name = sa.Text


def _id() -> sa.Column[int]:
    return sa.Column("id", Id, sa.Identity(always=False), primary_key=True)


OUTCOMES = ("completed", "failed", "timeout", "interrupted", "suspended", "cancelled")


def _one_of(column: str, *values: str) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _option_checks() -> list[sa.CheckConstraint]:
    """The bounds of options, wherever a row has them."""
    return [
        sa.CheckConstraint("priority BETWEEN -20 AND 20", name="priority"),
        sa.CheckConstraint("timeout > 0", name="timeout"),
        sa.CheckConstraint("max_attempts > 0", name="max_attempts"),
        sa.CheckConstraint("backoff >= 0 AND backoff_factor >= 1 AND max_backoff >= 0", name="backoff"),
    ]


task_type = sa.Table(
    "task_type",
    metadata,
    _id(),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("source", Name, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("timeout", Instant),
    sa.Column("max_attempts", sa.Integer),
    sa.Column("backoff", Instant),
    sa.Column("backoff_factor", sa.Float),
    sa.Column("max_backoff", Instant),
    sa.Column("priority", sa.SmallInteger),
    sa.Column("max_concurrent_tasks", sa.Integer),
    sa.Column("code_options", sa.Text, nullable=False, server_default="{}"),
    sa.Column("resource_options", sa.Text, nullable=False, server_default="{}"),
    sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("resource", Name),
    sa.Column("deletion_policy", Name),
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("pool", Name),
    sa.UniqueConstraint("namespace", "name", name="task_type_by_name"),
    sa.UniqueConstraint("namespace", "resource", name="task_type_by_resource"),
    sa.CheckConstraint(_one_of("source", "code", "resource"), name="source"),
    sa.CheckConstraint("resource IS NULL OR (source = 'resource' AND NOT draining)", name="a_resource_is_in_force"),
    sa.CheckConstraint(_one_of("deletion_policy", "Retain", "Drain", "Cancel"), name="deletion_policy"),
    sa.CheckConstraint("resource IS NULL OR deletion_policy IS NOT NULL", name="a_resource_says_how_it_goes"),
    sa.CheckConstraint("max_concurrent_tasks > 0", name="max_concurrent_tasks"),
    *_option_checks(),
    sqlite_autoincrement=True,
)

cron_task = sa.Table(
    "cron_task",
    metadata,
    _id(),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("source", Name, nullable=False),
    sa.Column("type_id", Id, nullable=False),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("tag", sa.Text),
    sa.Column("timeout", Instant),
    sa.Column("max_attempts", sa.Integer),
    sa.Column("backoff", Instant),
    sa.Column("backoff_factor", sa.Float),
    sa.Column("max_backoff", Instant),
    sa.Column("priority", sa.SmallInteger),
    sa.Column("missed_run_policy", Name, nullable=False),
    sa.Column("concurrency_policy", Name, nullable=False),
    sa.Column("pause_on_failure", sa.Boolean, nullable=False),
    sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("paused_reason", sa.Text),
    sa.Column("decided_through", Instant, nullable=False),
    sa.Column("next_at", Instant, nullable=False),
    sa.UniqueConstraint("namespace", "name", name="cron_task_by_name"),
    sa.CheckConstraint(_one_of("source", "code", "resource"), name="source"),
    sa.CheckConstraint("next_at > decided_through", name="next_is_undecided"),
    sa.CheckConstraint("paused OR paused_reason IS NULL", name="paused_for_a_reason"),
    sa.CheckConstraint(_one_of("missed_run_policy", "Skip", "RunLatest"), name="missed_run_policy"),
    sa.CheckConstraint(_one_of("concurrency_policy", "Allow", "Forbid"), name="concurrency_policy"),
    *_option_checks(),
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
    sa.CheckConstraint(_one_of("decision", "run", "skip"), name="decision"),
    sa.CheckConstraint("(decision = 'run') = (task_id IS NOT NULL)", name="a_run_has_a_task"),
    sa.CheckConstraint("(decision = 'skip') = (reason IS NOT NULL)", name="a_skip_has_a_reason"),
    sa.CheckConstraint("through >= tick AND count > 0", name="range"),
    sa.CheckConstraint(
        "decision = 'skip' OR (through = tick AND count IS NOT NULL AND count = 1)", name="a_run_is_one_instant"
    ),
)


def _task_columns() -> list[sa.Column[object]]:
    """What a task keeps through its whole life, hot or final."""
    return [
        sa.Column("type_id", Id, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False, server_default="0"),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("run_at", Instant, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("started_at", Instant),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("interruptions", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_outcome", Name),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("context", sa.LargeBinary),
        sa.Column("tag", sa.Text),
        sa.Column("timeout", Instant),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("backoff", Instant),
        sa.Column("backoff_factor", sa.Float),
        sa.Column("max_backoff", Instant),
        sa.Column("parent_id", Id),
        sa.Column("root_id", Id),
        sa.Column("generation", sa.Integer),
        sa.Column("spawned", sa.Integer),
        sa.Column("children", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cron_id", Id),
        sa.Column("tick", Instant),
        sa.Column("worker_id", Id),
        sa.Column("suspend_reason", sa.Text),
        sa.Column("current_stage_name", sa.Text),
        sa.Column("progress_text", sa.Text),
        sa.Column("progress_percent", sa.SmallInteger),
        sa.Column("last_event_type", Name),
        sa.Column("last_event_at", Instant),
    ]


def _task_checks() -> list[sa.CheckConstraint]:
    """What is true of a task through its whole life."""
    return [
        sa.CheckConstraint("stage >= 0", name="stage"),
        sa.CheckConstraint(
            "failures >= 0 AND interruptions >= 0 AND failures + interruptions <= attempt", name="failures_are_attempts"
        ),
        sa.CheckConstraint(
            f"attempt > 0 AND {_one_of('last_outcome', *OUTCOMES)} OR last_outcome IS NULL", name="last_outcome"
        ),
        sa.CheckConstraint("(parent_id IS NULL) = (generation IS NULL) AND generation > 0", name="a_child_has_a_generation"),
        sa.CheckConstraint("(parent_id IS NULL) = (root_id IS NULL)", name="a_child_has_a_root"),
        sa.CheckConstraint("parent_id < id AND root_id <= parent_id", name="parents_come_first"),
        sa.CheckConstraint(
            "(cron_id IS NULL) = (tick IS NULL) AND (cron_id IS NULL OR parent_id IS NULL)", name="a_tick_has_an_instant"
        ),
        sa.CheckConstraint(
            "(children = 0) = (spawned IS NULL) AND children >= 0 AND spawned BETWEEN 1 AND attempt",
            name="children_were_spawned",
        ),
        sa.CheckConstraint("progress_percent BETWEEN 0 AND 100", name="percent"),
        sa.CheckConstraint("(attempt = 0) = (started_at IS NULL)", name="started_by_an_attempt"),
        *_option_checks(),
    ]


task = sa.Table(
    "task",
    metadata,
    _id(),
    sa.Column("state", Name, nullable=False),
    sa.Column("order_key", Instant, nullable=False),
    *_task_columns(),
    sa.Column("open_children", sa.Integer, nullable=False, server_default="0"),
    sa.Column("claimed_at", Instant),
    sa.Column("deadline_at", Instant),
    sa.CheckConstraint(_one_of("state", "scheduled", "ready", "running", "suspended", "paused"), name="state"),
    sa.CheckConstraint("(state = 'running') = (worker_id IS NOT NULL)", name="running_has_a_worker"),
    sa.CheckConstraint("(state = 'running') = (claimed_at IS NOT NULL)", name="running_was_claimed"),
    sa.CheckConstraint(
        "(state = 'running') = (deadline_at IS NOT NULL) AND deadline_at > claimed_at", name="running_has_a_deadline"
    ),
    sa.CheckConstraint("state NOT IN ('running', 'suspended') OR attempt > 0", name="running_is_an_attempt"),
    sa.CheckConstraint("open_children BETWEEN 0 AND children", name="open_children"),
    sa.CheckConstraint("open_children = 0 OR (state = 'suspended' AND suspend_reason IS NULL)", name="waits_for_children"),
    sa.CheckConstraint("suspend_reason IS NULL OR state = 'suspended'", name="suspend_reason"),
    sa.CheckConstraint(
        "state <> 'suspended' OR open_children > 0 OR suspend_reason IS NOT NULL", name="suspended_waits_for_something"
    ),
    *_task_checks(),
    sqlite_autoincrement=True,
    postgresql_with={
        "fillfactor": 80,
        "autovacuum_vacuum_scale_factor": "0.01",
        "autovacuum_vacuum_threshold": 1000,
        "autovacuum_vacuum_cost_delay": 0,
        "autovacuum_analyze_scale_factor": "0.05",
    },
)


def _partial(name: str, *columns: sa.Column[object], where: str) -> sa.Index:
    return sa.Index(name, *columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


_partial("task_claim", task.c.type_id, task.c.order_key, task.c.id, where="state = 'ready'")
_partial("task_promote", task.c.run_at, where="state = 'scheduled'")
_partial("task_owner", task.c.worker_id, where="state = 'running'")
_partial("task_children", task.c.parent_id, where="parent_id IS NOT NULL")
_partial("task_workflow", task.c.root_id, where="root_id IS NOT NULL")
_partial("task_tick", task.c.cron_id, where="cron_id IS NOT NULL")
_partial("task_suspended", task.c.id, where="state = 'suspended'")

task_final = sa.Table(
    "task_final",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("status", Name, nullable=False),
    *_task_columns(),
    sa.Column("result", sa.Text),
    sa.Column("finished_at", Instant, nullable=False),
    sa.CheckConstraint(_one_of("status", "completed", "permanently_failed", "cancelled"), name="status"),
    sa.CheckConstraint("result IS NULL OR status = 'completed'", name="only_success_has_a_result"),
    sa.CheckConstraint("error IS NOT NULL OR status <> 'permanently_failed'", name="a_failure_has_an_error"),
    sa.CheckConstraint("attempt > 0 OR status = 'cancelled'", name="ended_by_an_attempt"),
    sa.CheckConstraint("suspend_reason IS NULL", name="waits_for_nothing"),
    *_task_checks(),
)
_partial("task_final_children", task_final.c.parent_id, where="parent_id IS NOT NULL")
_partial("task_final_workflow", task_final.c.root_id, where="root_id IS NOT NULL")
_partial("task_final_failed", task_final.c.type_id, where="status = 'permanently_failed'")
_partial("task_final_tag", task_final.c.tag, where="tag IS NOT NULL")
sa.Index("task_final_prune", task_final.c.finished_at, postgresql_using="brin")

attempt = sa.Table(
    "attempt",
    metadata,
    sa.Column("task_id", Id, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("worker_id", Id, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant, nullable=False),
    sa.Column("outcome", Name, nullable=False),
    sa.Column("became", Name),
    sa.Column("ended_by", Id),
    sa.Column("error", sa.Text),
    sa.CheckConstraint("attempt > 0 AND stage >= 0 AND failures BETWEEN 0 AND attempt", name="counts_rise"),
    sa.CheckConstraint(_one_of("outcome", *OUTCOMES), name="outcome"),
    sa.CheckConstraint(_one_of("became", "pending", "permanently_failed", "paused"), name="became"),
    sa.CheckConstraint(
        "(became IS NULL) = (outcome IN ('completed', 'suspended', 'cancelled'))",
        name="became_what_the_outcome_left_open",
    ),
)

event = sa.Table(
    "event",
    metadata,
    _id(),
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

worker = sa.Table(
    "worker",
    metadata,
    _id(),
    sa.Column("namespace", Name, nullable=False),
    sa.Column("pod_id", Name),
    sa.Column("pod_uid", Name),
    sa.Column("pool", Name),
    sa.Column("host", Name, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("status", Name, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("handlers", sa.Text, nullable=False, server_default="[]"),
    sa.Column("process_started_at", Instant),
    sa.Column("heartbeat", Instant),
    sa.Column("lease", Instant, nullable=False),
    sa.Column("registered_at", Instant, nullable=False),
    sa.Column("renewed_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("ended_by", Id),
    sa.CheckConstraint(_one_of("status", "active", "stopped", "reaped", "superseded"), name="status"),
    sa.CheckConstraint("(status = 'active') = (ended_at IS NULL)", name="active_has_not_ended"),
    sa.CheckConstraint("ended_by IS NULL OR status IN ('reaped', 'superseded')", name="ended_by_another"),
    sa.CheckConstraint("lease > 0 AND slots > 0", name="lease"),
    sqlite_autoincrement=True,
    postgresql_with={"fillfactor": 50},
)
sa.Index(
    "worker_identity",
    worker.c.namespace,
    worker.c.pod_id,
    unique=True,
    postgresql_where=sa.text("status = 'active' AND pod_id IS NOT NULL"),
    sqlite_where=sa.text("status = 'active' AND pod_id IS NOT NULL"),
)
_partial("worker_lease", worker.c.expires_at, where="status = 'active'")
_partial("worker_pod", worker.c.pod_uid, where="status = 'active' AND pod_uid IS NOT NULL")

fenced_pod = sa.Table(
    "fenced_pod",
    metadata,
    sa.Column("pod_uid", Name, primary_key=True),
    sa.Column("fenced_at", Instant, nullable=False),
)
"""Pods that are gone for ever: no worker of theirs registers again. The protocol: fencing.py."""

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
    sa.CheckConstraint("slots > 0 AND replicas >= 0 AND drain >= 0", name="sizes"),
)

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, autoincrement=False, server_default=sa.true()),
    sa.Column("installation", Name, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("holder", Name, nullable=False),
    sa.Column("taken_at", Instant, nullable=False),
    sa.Column("refused", sa.BigInteger, nullable=False, server_default="0"),
    sa.CheckConstraint("one", name="one"),
    sa.CheckConstraint("epoch > 0 AND refused >= 0", name="counts_rise"),
)
"""One row at most: which installation the database serves, and who leads it. The protocol: installation.py."""

schema_version = sa.Table(
    "schema_version",
    metadata,
    sa.Column("version", Name, primary_key=True),
    sa.Column("oldest_code", Name, nullable=False),
)
"""One row: the migration that the schema stands at, and the oldest code that works with it."""
