"""The tables, their bounds, CHECKs and their indexes: what the database itself refuses, and how each scan is served.

`task` holds only what is not final and stays small for ever; a task that ends moves to `task_final`. An attempt's row is
written when it ends; the open attempt is the hot row itself (worker_id, claimed_at, deadline_at, and `attempt`, which is
the fence). Events that follow from a task and its attempts are not stored; reading derives them (derived.py).

Times and durations are microseconds (BIGINT). An option that is NULL means the default of model.py. PostgreSQL keeps all
of it in the schema `fibflow`; SQLite has no schemas and uses the bare names. `state` is stored finer than the status that
people see: `scheduled` and `ready` are both pending, so that only ready rows are in the claim's index.

The migrations build exactly this (a test compares them).
"""

from fibflow.store.tables.columns import SCHEMA, add_bounds, metadata
from fibflow.store.tables.declared import cron_task, cron_tick, task_type, worker_pool
from fibflow.store.tables.programs import fenced_pod, installation, schema_version, worker
from fibflow.store.tables.tasks import attempt, event, stale_write, task, task_final

__all__ = [
    "SCHEMA",
    "attempt",
    "cron_task",
    "cron_tick",
    "event",
    "fenced_pod",
    "installation",
    "metadata",
    "schema_version",
    "stale_write",
    "task",
    "task_final",
    "task_type",
    "worker",
    "worker_pool",
]

add_bounds()
