"""Rows that may be, one a table, and what makes each of them impossible: the CHECK that refuses it, and the change."""

from typing import Any

import sqlalchemy as sa

from fibflow.store import tables

HOT, FINAL = tables.task, tables.task_final
RUNNING = {"state": "running", "attempt": 1, "started_at": 1, "worker_id": 1, "claimed_at": 1, "deadline_at": 2}
SUSPENDED = {"state": "suspended", "suspend_reason": "approval"}
CHILD = {"parent_id": 1, "root_id": 1, "generation": 1}
CRON = {
    "namespace": "default", "name": "n", "source": "code", "type_id": 1, "schedule": "@daily", "payload": "{}",
    "missed_run_policy": "Skip", "concurrency_policy": "Allow", "pause_on_failure": True, "decided_through": 1, "next_at": 2,
}  # fmt: skip
TICK = {"cron_id": 1, "tick": 5, "through": 5, "decision": "run", "task_id": 1, "decided_at": 5}
ATTEMPT = {
    "task_id": 1, "attempt": 1, "stage": 0, "failures": 0, "worker_id": 1, "started_at": 1, "ended_at": 2,
    "outcome": "completed", "became": None,
}  # fmt: skip
WORKER = {
    "namespace": "default", "pod_id": "pod-0", "host": "h", "pid": 1, "slots": 1, "status": "active", "lease": 1,
    "registered_at": 1, "renewed_at": 1, "expires_at": 2,
}  # fmt: skip

Row = dict[str, Any]
COMMON: list[tuple[str, Row]] = [
    ("priority", {"priority": 21}),
    ("priority", {"priority": -21}),
    ("counts_rise", {"stage": -1}),
    ("failures_are_attempts", {"failures": 1}),
    ("failures_are_attempts", {"interruptions": -1}),
    ("a_child_has_a_generation", {**CHILD, "generation": None}),
    ("a_child_has_a_root", {**CHILD, "root_id": None}),
    ("parents_come_first", {**CHILD, "parent_id": 200}),
    ("parents_come_first", {**CHILD, "root_id": 2}),
    ("a_tick_has_an_instant", {"cron_id": 1}),
    ("percent", {"progress_percent": 101}),
    ("started_by_an_attempt", {"attempt": 1}),
    ("started_by_an_attempt", {"started_at": 1}),
    ("timeout", {"timeout": 0}),
    ("max_attempts", {"max_attempts": 0}),
    ("backoff", {"backoff": -1}),
    ("backoff", {"backoff_factor": 0.5}),
]
IMPOSSIBLE: list[tuple[sa.Table, str | None, Row]] = [
    *((HOT, name, row) for name, row in COMMON),
    *((FINAL, name, row) for name, row in COMMON),
    (HOT, "state", {"state": "failed"}),
    (HOT, "running_has_a_worker", {**RUNNING, "worker_id": None}),
    (HOT, "running_has_a_worker", {"worker_id": 1}),
    (HOT, "running_was_claimed", {**RUNNING, "claimed_at": None}),
    (HOT, "running_has_a_deadline", {**RUNNING, "deadline_at": None}),
    (HOT, "running_is_an_attempt", {**RUNNING, "attempt": 0, "started_at": None}),
    (HOT, "open_children", {**SUSPENDED, "children": 1, "open_children": 2}),
    (HOT, "open_children", {**SUSPENDED, "open_children": -1}),
    (HOT, "waits_for_children", {"children": 1, "open_children": 1}),
    (HOT, "suspend_reason", {"suspend_reason": "approval"}),
    (HOT, "suspended_waits_for_something", {"state": "suspended"}),
    (FINAL, "status", {"status": "failed"}),
    (FINAL, "only_success_has_a_result", {"status": "cancelled", "result": "1"}),
    (FINAL, None, {"finished_at": None}),
    (tables.attempt, "outcome", {"outcome": "paused", "became": "pending"}),
    (tables.attempt, "became_what_the_outcome_left_open", {"outcome": "failed"}),
    (tables.attempt, "became_what_the_outcome_left_open", {"became": "pending"}),
    (tables.task_type, "source", {"source": "guess"}),
    (tables.cron_task, "next_is_undecided", {"next_at": 1}),
    (tables.cron_task, "missed_run_policy", {"missed_run_policy": "Sometimes"}),
    (tables.cron_task, "concurrency_policy", {"concurrency_policy": "Perhaps"}),
    (tables.cron_tick, "decision", {"decision": "perhaps", "task_id": None}),
    (tables.cron_tick, "a_run_has_a_task", {"task_id": None}),
    (tables.cron_tick, "a_skip_has_a_reason", {"reason": "missed"}),
    (tables.cron_tick, "range", {"through": 4}),
    (tables.worker, "status", {"status": "gone", "ended_at": 2}),
    (tables.worker, "active_has_not_ended", {"ended_at": 1}),
]
POSSIBLE: dict[sa.Table, Row] = {
    HOT: {
        "id": 100, "type_id": 1, "state": "ready", "order_key": 1, "priority": 0, "run_at": 1, "created_at": 1, "payload": "{}",
    },
    FINAL: {
        "id": 100, "type_id": 1, "status": "completed", "priority": 0, "run_at": 1, "created_at": 1, "payload": "{}",
        "finished_at": 1,
    },
    tables.attempt: ATTEMPT,
    tables.task_type: {"namespace": "default", "name": "t", "source": "code"},
    tables.cron_task: CRON,
    tables.cron_tick: TICK,
    tables.worker: WORKER,
}  # fmt: skip
