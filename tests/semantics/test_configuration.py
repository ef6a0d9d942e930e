"""Set-up: which databases a client takes, what the defaults are, what is refused, and what the log tells."""

import asyncio
import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

import fibflow
from fibflow import App, AsyncClient, Client, Options, PermanentError, Status
from fibflow.errors import DatabaseUnavailable, InvalidInput, SchemaMismatch
from fibflow.store import leases, tables
from fibflow.store.database import Database, parse_url
from fibflow.store.migrate import check_schema, newest
from fibflow.store.retention import A_DAY, AN_HOUR
from fibflow.store.tasktypes import Declaration
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings, settings

WORK = [Declaration("work")]


@pytest.fixture(autouse=True)
def no_database_in_the_environment(monkeypatch):
    for name in ("FIBFLOW_DATABASE", "FIBFLOW_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


# ── databases ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_client_needs_a_database_it_knows(monkeypatch, database_url):
    with pytest.raises(InvalidInput, match="database: None is missing; set FIBFLOW_DATABASE, or pass a URL"):
        Client()
    monkeypatch.setenv("FIBFLOW_DATABASE", database_url)
    with Client() as client:
        assert client.tasks().total == 0

    for unknown in ("mysql://root@localhost/tasks", "mongodb://localhost", "tasks.db", "", {}, 5, object()):
        with pytest.raises(InvalidInput, match=r"database: .*sqlite:///FILE or postgresql://USER@HOST/NAME"):
            Client(unknown)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="db_type"):
        Client(database_url, db_type="sqlite")  # type: ignore[call-arg]
    with pytest.raises(InvalidInput, match="namespace: 'other' is not the Database's own, 'default'"):
        Client(Database(database_url), namespace="other")


def test_a_client_accepts_a_url_or_an_engine(database_url):
    engine = sa.create_engine(parse_url(database_url))
    shared = Database(database_url)
    enqueued = []
    for place in (database_url, sa.make_url(database_url), engine, shared):
        with Client(place) as client:
            client.declare_types(WORK)
            enqueued.append(client.enqueue("work"))
            client.cancel(enqueued[-1])
            assert client.get(enqueued[-1]).status is Status.CANCELLED
            assert client.tasks(limit=None).total == len(enqueued), "a read"
        with pytest.raises(DatabaseUnavailable, match="closed"):
            client.get(enqueued[0])

    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1, "the engine stays its maker's"
    assert Client(shared).tasks().total == len(enqueued), "and so does a Database"
    assert asyncio.run(enqueue_awaited(database_url, engine)) == len(enqueued) + 2
    engine.dispose()
    shared.close()
    assert {"App", "Client", "AsyncClient", "Retry", "PermanentError", "FibflowError", "Status"} <= set(fibflow.__all__)


async def enqueue_awaited(database_url, engine):
    """The same by the awaitable client; on PostgreSQL with an async engine, too."""
    total = 0
    for place in (database_url, engine):
        async with AsyncClient(place) as client:
            await client.enqueue("work")
            total = (await client.tasks()).total
        with pytest.raises(DatabaseUnavailable, match="closed"):
            await client.tasks()
    if database_url.startswith("postgresql"):
        own = create_async_engine(parse_url(database_url))
        async with AsyncClient(own) as client:
            assert (await client.tasks()).total == total
        async with own.connect() as connection:
            assert (await connection.execute(sa.text("SELECT 1"))).scalar() == 1
        await own.dispose()
    return total


def test_an_engine_that_cannot_serve_is_refused():
    with pytest.raises(InvalidInput, match=r"has another driver; write postgresql\+psycopg://"):
        Client(sa.create_engine("postgresql+pg8000://ann@localhost/tasks", module=psycopg))
    with pytest.raises(InvalidInput, match="is async; give SQLite's create_engine"):
        AsyncClient(create_async_engine("sqlite+aiosqlite://", module=SimpleNamespace(**vars(sqlite3), has_stop=True)))


def test_a_memory_database_is_shared_by_all_threads():
    with Client("sqlite://") as client:
        client.migrate()
        client.declare_types(WORK)
        with ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda n: client.enqueue("work", {"n": n}), range(40)))
        assert len(set(ids)) == 40
        assert client.tasks(limit=None).total == 40
        found = []
        reader = threading.Thread(target=lambda: found.append(client.get(ids[0]).payload))
        reader.start()
        reader.join()
        assert found == [{"n": 0}]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    """The address of a database with nothing in it, once for each kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_empty_url")
    return f"sqlite:///{tmp_path / 'empty.db'}"


def test_migrating_twice_changes_nothing(empty_url):
    database = Database(empty_url)
    client = Client(database)
    with pytest.raises(SchemaMismatch, match="fibflow migrate"):
        client.tasks()
    with pytest.raises(SchemaMismatch, match="fibflow migrate"):
        check_schema(database)

    assert client.migrate() == newest()
    client.declare_types(WORK)
    client.enqueue("work")
    assert client.migrate() == newest()
    check_schema(database)
    assert client.tasks().total == 1

    inspector = sa.inspect(database.engine)
    made = set(inspector.get_table_names(schema="fibflow" if database.postgresql else None))
    assert {"task", "task_final", "attempt", "event", "worker", "cron_task", "cron_tick", "task_type"} <= made
    assert made == {table.name for table in tables.metadata.tables.values()} | {"alembic_version"}
    if not database.postgresql:
        with database.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    database.close()


# ── defaults ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_defaults_are_those_of_the_docs(database):
    client = Client(database)
    client.declare_types(WORK)
    task = client.get(client.enqueue("work"))
    assert (task.max_attempts, task.timeout, task.priority) == (3, 60.0, 0)
    assert (task.backoff, task.backoff_factor, task.max_backoff) == (0.0, 1.0, None)

    in_force = worker_settings(database)
    assert (in_force.slots, in_force.poll_interval) == (10, 1.0)
    assert (in_force.heartbeat_interval, in_force.lease) == (5.0, 30.0)
    assert in_force.recover_running_tasks is True
    assert (in_force.retention_age, in_force.retention_interval) == ("usual", 300.0)
    assert set(in_force.retention_statuses) == {"completed", "permanently_failed", "cancelled"}
    assert worker_settings(database, Settings(slots=3)).slots == 3, "what is in force can be asked for"
    assert not any("active" in column.name for column in tables.task.c), "no heartbeat is written for a task"


@pytest.mark.parametrize(("url", "age"), [("sqlite://", AN_HOUR), ("sqlite:///{}/file.db", A_DAY)])
def test_history_is_usually_kept_for_a_day_and_in_memory_for_an_hour(tmp_path, url, age):
    with Client(url.format(tmp_path)) as client:
        client.migrate()
        client.declare_types(WORK)
        client.cancel(client.enqueue("work"))
        clock = client.database.clock
        clock.offset += round((age - 10) * 1_000_000)
        assert client.prune().tasks == 0
        clock.offset += 20_000_000
        assert client.prune().tasks == 1


def worker_settings(database, given=None):
    """What a worker says of itself; it is made in a loop and never started."""

    async def made():
        return Worker(App(), database, given).settings

    return asyncio.run(made())


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────

UNUSABLE_SETTINGS: list[dict[str, Any]] = [
    *({"slots": value} for value in (0, -1, 1.5, "10", True, None)),
    *({"poll_interval": value} for value in (0, -1, "1", float("nan"))),
    *({"heartbeat_interval": value} for value in (0, -5, "5")),
    *({"lease": value} for value in (0, -30, "30", 1)),
    *({"drain": value} for value in (-1, "x")),
    *({"retention_age": value} for value in (0, -1, "long", True)),
    *({"retention_interval": value} for value in (0, -300)),
    *({"retention_statuses": value} for value in ((), ("running",), ("done",), "completed", None)),
    *({"recover_running_tasks": value} for value in (1, "yes", None)),
    *({"pod_id": value} for value in ("", "  ", 7)),
]
UNUSABLE_OPTIONS: list[dict[str, Any]] = [
    {"timeout": 0}, {"timeout": -1}, {"timeout": "60"}, {"timeout": float("inf")}, {"max_attempts": 0},
    {"max_attempts": 1.5}, {"backoff": -1}, {"backoff_factor": 0.5}, {"max_backoff": -1}, {"priority": 21}, {"priority": -21},
    {"priority": "high"},
]  # fmt: skip
UNKNOWN_OPTIONS: list[dict[str, Any]] = [{"retries": 3}, {"retryDelay": 5}, {"retry_interval": 5}, {"max_retries": 3}]


def refused(call, given):
    """The call is refused with the field, the value and a way out."""
    ((name, value),) = given.items()
    with pytest.raises(InvalidInput) as refusal:
        call(**given)
    assert refusal.value.field == name, given
    text = str(refusal.value)
    assert text.startswith(f"{name}: ") and len(text) > len(f"{name}: {value!r} "), text


def test_unusable_options_are_refused_by_name(database):
    client = Client(database)
    client.declare_types(WORK)
    for given in UNUSABLE_SETTINGS:
        refused(Settings, given)
    with pytest.raises(InvalidInput, match="settings: 'slot' is no setting; known: slots,"):
        settings({"slot": 3})

    app = App()
    cron: dict[str, Any] = {"name": "nightly", "type": "work", "schedule": "@daily"}
    for given in UNUSABLE_OPTIONS:
        refused(lambda **options: client.enqueue("work", **options), given)
        refused(lambda **options: client.put_cron(**cron, **options), given)
        refused(lambda **options: client.declare_types([Declaration("other", Options(**options))]), given)
    for unknown in (*UNKNOWN_OPTIONS, {"tag": "x"}, {"delay": 5}):
        with pytest.raises(InvalidInput, match=f"{next(iter(unknown))}.*known: timeout, max_attempts"):
            app.add("work", lambda ctx: None, **unknown)
    for unknown in UNKNOWN_OPTIONS:
        with pytest.raises(TypeError, match=next(iter(unknown))):  # Python's own refusal of a name that no signature has
            client.enqueue("work", **unknown)
    with pytest.raises(TypeError, match="delay"):
        client.put_cron(**cron, delay=5)  # type: ignore[call-arg]
    for place in ({"pod_id": " "}, {"lease": 0.0}, {"lease": -1.0}, {"slots": 0}):
        identity: dict[str, Any] = {"pod_id": None, "host": "h", "pid": 1, "slots": 1, "lease": 30.0}
        with pytest.raises(InvalidInput, match=next(iter(place))):
            database.call(leases.register, **identity | place)
    assert (client.tasks().total, client.crons(), len(client.types()), app.handlers) == (0, [], 1, {})


# ── the log ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_log_tells_transitions_and_no_password(workplace, caplog):
    caplog.set_level(logging.DEBUG, "fibflow")
    caplog.set_level(logging.DEBUG, "fibflow_worker")
    app = App()
    app.add("ok", lambda ctx, payload: None)
    app.add("bad", failing)
    app.sync(workplace.database)
    paused, cancelled = workplace.client.enqueue("ok"), workplace.client.enqueue("ok")
    workplace.client.pause(paused)
    workplace.client.cancel(cancelled, reason="no longer wanted")
    lost = workplace.taken(workplace.registered("pod-0"), "ok")
    workplace.start(app, pod_id="pod-0")
    workplace.outcome("bad", max_attempts=1)
    workplace.ended(lost.id)
    with pytest.raises(DatabaseUnavailable) as refusal, Client("postgresql://ann:hunter2@127.0.0.1:1/tasks") as nowhere:
        nowhere.tasks()
    with pytest.raises(InvalidInput) as unknown:
        Client("mysql://ann:hunter2@127.0.0.1/tasks")

    told: dict[int, set[object]] = {}
    for record in caplog.records:
        if record.name.startswith("fibflow"):
            told.setdefault(record.levelno, set()).add(dict(record.msg)["event"])
    assert {"task_paused", "task_cancelled", "task_failed", "task_recovered"} <= told[logging.INFO]
    assert {"task_created", "task_claimed", "task_completed"} <= told[logging.DEBUG]
    assert not {"task_created", "task_claimed", "task_completed"} & told[logging.INFO], "a busy worker stays readable"
    everything = f"{caplog.text} {refusal.value} {unknown.value}"
    assert "hunter2" not in everything


def failing(ctx, payload):
    raise PermanentError("broken")
