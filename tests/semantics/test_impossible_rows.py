"""What the database itself refuses: a case for every bound, CHECK, key and unique index, inserted and updated, on both.

Each case is a possible row but for what it says, and the constraint that is named is the one that refuses it: a bound by its
column on SQLite, by its domain on PostgreSQL.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from fibflow.store import tables
from fibflow.store.database import Database
from fibflow.store.migrate import migrate

Row = dict[str, Any]
HOT, FINAL, TYPE, CRON, TICK = tables.task, tables.task_final, tables.task_type, tables.cron_task, tables.cron_tick
ATTEMPT, EVENT, STALE, WORKER, VERSION = (
    tables.attempt, tables.event, tables.stale_write, tables.worker, tables.schema_version,
)  # fmt: skip
POOL, INSTALLATION, FENCED = tables.worker_pool, tables.installation, tables.fenced_pod

TASK: Row = {"id": 100, "type_id": 1, "priority": 0, "run_at": 1, "created_at": 1, "payload": "{}"}
POSSIBLE: dict[sa.Table, Row] = {
    TYPE: {
        "id": 1, "namespace": "default", "name": "t", "source": "resource", "resource": "r", "deletion_policy": "Drain",
    },
    CRON: {
        "id": 1, "namespace": "default", "name": "n", "source": "code", "type_id": 1, "schedule": "@daily", "payload": "{}",
        "missed_run_policy": "Skip", "concurrency_policy": "Allow", "pause_on_failure": True, "decided_through": 1,
        "next_at": 2,
    },
    TICK: {"cron_id": 1, "tick": 5, "through": 5, "decision": "run", "task_id": 1, "count": 1, "decided_at": 5},
    HOT: {**TASK, "state": "ready", "order_key": 1},
    FINAL: {**TASK, "status": "completed", "finished_at": 1, "attempt": 1, "started_at": 1},
    ATTEMPT: {
        "task_id": 1, "attempt": 1, "stage": 0, "failures": 0, "worker_id": 1, "started_at": 1, "ended_at": 2,
        "outcome": "completed",
    },
    EVENT: {"id": 1, "task_id": 1, "attempt": 1, "phase": 1, "type": "task_progress", "at": 1, "stage": 0},
    STALE: {"task_id": 1, "fence": 1, "verb": "complete", "at": 1, "count": 1},
    WORKER: {
        "id": 1, "namespace": "default", "pod_id": "pod-0", "host": "h", "pid": 1, "slots": 1, "status": "active", "lease": 1,
        "registered_at": 1, "renewed_at": 1, "expires_at": 2,
    },
    POOL: {"namespace": "default", "name": "p", "app": "a:b", "slots": 1, "replicas": 0, "drain": 0},
    INSTALLATION: {"one": True, "installation": "a/b", "epoch": 1, "holder": "h", "taken_at": 1},
    VERSION: {"version": "9999", "oldest_code": "0.1.0"},
    FENCED: {"pod_uid": "u", "fenced_at": 1},
}  # fmt: skip

BEGUN: Row = {"attempt": 1, "started_at": 1}
RUNNING: Row = {**BEGUN, "state": "running", "worker_id": 1, "claimed_at": 1, "deadline_at": 2}
SUSPENDED: Row = {**BEGUN, "state": "suspended", "suspend_reason": "approval"}
WAITING: Row = {**BEGUN, "state": "suspended", "spawned": 1, "children": 1, "open_children": 1}
CHILD: Row = {"parent_id": 1, "root_id": 1, "generation": 1}

OPTIONS: dict[str, list[Row]] = {
    "priority": [{"priority": 21}, {"priority": -21}],
    "timeout": [{"timeout": 0}],
    "max_attempts": [{"max_attempts": 0}],
    "backoff": [{"backoff": -1}],
    "backoff_factor": [{"backoff_factor": 0.5}],
    "max_backoff": [{"max_backoff": -1}],
}
EITHER: dict[str, list[Row]] = {
    **OPTIONS,
    "stage": [{"stage": -1}],
    "failures": [{**BEGUN, "failures": -1}],
    "interruptions": [{**BEGUN, "interruptions": -1}],
    "failures_are_attempts": [{**BEGUN, "failures": 2}, {**BEGUN, "failures": 1, "interruptions": 1}],
    "last_outcome": [{**BEGUN, "last_outcome": "paused"}],
    "a_child_has_a_generation": [{**CHILD, "generation": None}, {"generation": 1}, {**CHILD, "generation": 0}],
    "a_child_has_a_root": [{**CHILD, "root_id": None}, {"root_id": 1}],
    "parents_come_first": [{**CHILD, "parent_id": 200}, {**CHILD, "parent_id": 100}, {**CHILD, "root_id": 2}],
    "a_tick_has_an_instant": [{"cron_id": 1}, {"tick": 1}, {**CHILD, "cron_id": 1, "tick": 1}],
    "children_were_spawned": [
        {**BEGUN, "children": 1},
        {**BEGUN, "spawned": 1},
        {**BEGUN, "children": 1, "spawned": 2},
        {**BEGUN, "children": 1, "spawned": 0},
    ],
    "children": [{**BEGUN, "children": -1, "spawned": 1}],
    "progress_percent": [{"progress_percent": 101}, {"progress_percent": -1}],
    "started_by_an_attempt": [{"attempt": 1, "started_at": None}],
}
OWN: dict[sa.Table, dict[str, list[Row]]] = {
    HOT: {
        **EITHER,
        "failures_are_attempts": [*EITHER["failures_are_attempts"], {**BEGUN, "attempt": -1}],
        "an_outcome_is_of_an_attempt": [{"last_outcome": "failed"}],
        "started_by_an_attempt": [{"attempt": 1}, {"started_at": 1}],
        "state": [{"state": "failed"}, {"state": "pending"}],
        "running_is_held": [
            {**RUNNING, "worker_id": None},
            {"worker_id": 1},
            {**RUNNING, "claimed_at": None},
            {"claimed_at": 1},
            {**RUNNING, "deadline_at": None},
            {"deadline_at": 1},
            {**RUNNING, "deadline_at": 1},
            {**RUNNING, "attempt": 0, "started_at": None},
        ],
        "open_children": [{"open_children": -1}],
        "open_children_are_children": [{**WAITING, "open_children": 2}],
        "suspended_waits_for_something": [
            {**SUSPENDED, "suspend_reason": None},
            {**SUSPENDED, "attempt": 0, "started_at": None},
            {**WAITING, "open_children": 0},
            {**WAITING, "suspend_reason": "approval"},
            {**WAITING, "state": "paused"},
            {"suspend_reason": "approval"},
        ],
    },
    FINAL: {
        **EITHER,
        "status": [{"status": "failed"}, {"status": "pending"}],
        "an_outcome_is_of_an_attempt": [{"status": "cancelled", "attempt": 0, "started_at": None, "last_outcome": "failed"}],
        "only_success_has_a_result": [{"status": "cancelled", "result": "1"}],
        "a_failure_has_an_error": [{"status": "permanently_failed"}],
        "ended_by_an_attempt": [
            {"attempt": 0, "started_at": None},
            {"status": "permanently_failed", "error": "e", "attempt": 0, "started_at": None},
        ],
        "waits_for_nothing": [{"suspend_reason": "approval"}],
    },
    ATTEMPT: {
        "counts_rise": [{"attempt": 0}, {"failures": 2}],
        "stage": [{"stage": -1}],
        "failures": [{"failures": -1}],
        "outcome": [{"outcome": "paused", "became": "pending"}],
        "became": [{"outcome": "failed", "became": "completed"}],
        "became_what_the_outcome_left_open": [{"outcome": "failed"}, {"became": "pending"}],
    },
    TYPE: {
        **OPTIONS,
        "source": [{"source": "guess", "resource": None}],
        "max_concurrent_tasks": [{"max_concurrent_tasks": 0}],
        "a_resource_is_in_force": [{"draining": True}, {"source": "code"}],
        "a_resource_says_how_it_goes": [{"deletion_policy": None}],
        "deletion_policy": [{"deletion_policy": "Perhaps"}],
    },
    POOL: {"sizes": [{"slots": 0}, {"replicas": -1}, {"drain": -1}]},
    INSTALLATION: {"one": [{"one": False}], "counts_rise": [{"epoch": 0}, {"refused": -1}]},
    CRON: {
        **OPTIONS,
        "source": [{"source": "guess"}],
        "next_is_undecided": [{"next_at": 1}],
        "missed_run_policy": [{"missed_run_policy": "Sometimes"}],
        "concurrency_policy": [{"concurrency_policy": "Perhaps"}],
        "paused_for_a_reason": [{"paused_reason": "a task failed"}],
    },
    TICK: {
        "decision": [{"decision": "perhaps", "task_id": None}],
        "a_run_has_a_task": [{"task_id": None}, {"decision": "skip", "reason": "missed"}],
        "a_skip_has_a_reason": [{"reason": "missed"}, {"decision": "skip", "task_id": None}],
        "range": [
            {"decision": "skip", "reason": "missed", "task_id": None, "through": 4},
            {"decision": "skip", "reason": "missed", "task_id": None, "count": 0},
        ],
        "a_run_is_one_instant": [{"through": 6}, {"count": 2}, {"count": None}],
    },
    STALE: {"counts_rise": [{"fence": -1}, {"count": 0}]},
    WORKER: {
        "status": [{"status": "gone", "ended_at": 2}],
        "active_has_not_ended": [{"ended_at": 1}, {"status": "reaped"}],
        "ended_by_another": [{"ended_by": 2}, {"status": "stopped", "ended_at": 1, "ended_by": 2}],
        "lease": [{"lease": 0}, {"slots": 0}],
    },
}
CHECKS = {f"{table.name}_{name}": (table, wrong) for table, cases in OWN.items() for name, wrong in cases.items()}

SECOND: dict[str, tuple[sa.Table, Row]] = {
    "task_type_pkey": (TYPE, {"name": "other", "resource": "other"}),
    "task_type_by_name": (TYPE, {"id": 2, "resource": "other"}),
    "task_type_by_resource": (TYPE, {"id": 2, "name": "other"}),
    "worker_pool_pkey": (POOL, {"app": "c:d"}),
    "installation_pkey": (INSTALLATION, {"installation": "c/d"}),
    "cron_task_pkey": (CRON, {"name": "other"}),
    "cron_task_by_name": (CRON, {"id": 2}),
    "cron_tick_pkey": (TICK, {"task_id": 2}),
    "task_pkey": (HOT, {"payload": "[]"}),
    "task_final_pkey": (FINAL, {"payload": "[]"}),
    "attempt_pkey": (ATTEMPT, {"worker_id": 2}),
    "event_pkey": (EVENT, {"task_id": 2}),
    "stale_write_pkey": (STALE, {"worker_id": 2}),
    "worker_pkey": (WORKER, {"pod_id": "pod-1"}),
    "worker_identity": (WORKER, {"id": 2}),
    "fenced_pod_pkey": (FENCED, {"fenced_at": 2}),
    "schema_version_pkey": (VERSION, {"oldest_code": "0.2.0"}),
}
"""By the name of a key or of a unique index: what a second row is like that it refuses."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database in which nothing stays."""
    if request.param == "sqlite":
        database = Database("sqlite://")
        migrate(database)
    else:
        server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
        database = Database(server.create("impossible_rows", template))
    yield database
    database.close()


@pytest.fixture
def connection(place):
    with place.engine.connect() as opened:
        yield opened
        opened.rollback()


def refusal(connection, *statements):
    """What the database says to the last of the statements; nothing of them stays."""
    step = connection.begin_nested()
    for statement in statements[:-1]:
        connection.execute(statement)
    with pytest.raises(IntegrityError) as refused:
        connection.execute(statements[-1])
    step.rollback()
    diagnosis = getattr(refused.value.orig, "diag", None)
    return str(refused.value.orig) if diagnosis is None else diagnosis.constraint_name or diagnosis.column_name


def told(table, name, dialect):
    """The name by which a database tells that a row cannot be."""
    column = table.c.get(name.removeprefix(f"{table.name}_"))
    return column.info["bounded"].name if dialect == "postgresql" and column is not None and "bounded" in column.info else name


def put(table, **changes):
    return sa.insert(table).values({**POSSIBLE[table], **changes})


@pytest.mark.parametrize("table", POSSIBLE, ids=lambda table: table.name)
def test_the_row_that_every_case_begins_with_is_possible(connection, table):
    connection.execute(put(table))


@pytest.mark.parametrize("name", CHECKS)
def test_a_row_that_cannot_be_is_neither_inserted_nor_made_by_an_update(connection, name):
    table, cases = CHECKS[name]
    for wrong in cases:
        for said in (refusal(connection, put(table, **wrong)), refusal(connection, put(table), sa.update(table).values(wrong))):
            assert said.removeprefix("CHECK constraint failed: ") == told(table, name, connection.dialect.name), wrong


@pytest.mark.parametrize("name", SECOND)
def test_a_second_row_of_the_same_key_is_refused(connection, name):
    table, other = SECOND[name]
    said = refusal(connection, put(table), put(table, **other))
    if connection.dialect.name == "postgresql":
        assert said == name
    else:
        named = ", ".join(f"{table.name}.{column}" for column in unique_columns(table)[name])
        assert said == f"UNIQUE constraint failed: {named}"


REQUIRED = [column for table in POSSIBLE for column in table.c if not column.nullable and column.name != "id"]


@pytest.mark.parametrize("column", REQUIRED, ids=str)
def test_a_column_that_must_have_a_value_is_not_emptied(connection, column):
    table = column.table
    for said in (
        refusal(connection, put(table, **{column.name: None})),
        refusal(connection, put(table), sa.update(table).values({column.name: None})),
    ):
        assert said.removeprefix("NOT NULL constraint failed: ") in (column.name, f"{table.name}.{column.name}")


def test_every_check_and_every_key_has_its_case():
    constraints = [each for table in tables.metadata.sorted_tables for each in table.constraints]
    checks = {str(each.name) for each in constraints if isinstance(each, sa.CheckConstraint)}
    assert checks - {"task_is_possible"} == set(CHECKS), "that one is a task's others in one function"
    assert {name for table in tables.metadata.sorted_tables for name in unique_columns(table)} == set(SECOND)
    assert set(POSSIBLE) == set(tables.metadata.sorted_tables)


def unique_columns(table):
    """The columns of each key and each unique index of a table, by its name."""
    found = {f"{table.name}_pkey": [column.name for column in table.primary_key]}
    for each in table.constraints:
        if isinstance(each, sa.UniqueConstraint):
            found[str(each.name)] = [column.name for column in each.columns]
    for index in table.indexes:
        if index.unique:
            found[str(index.name)] = [column.name for column in index.columns]
    return found
