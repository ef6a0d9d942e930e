"""Databases: what a client takes for one, whose connections they are, and what migrating makes of them."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

import fibflow
from fibflow import AsyncClient, Client, Status
from fibflow.errors import DatabaseUnavailable, InvalidInput, SchemaMismatch
from fibflow.store import tables
from fibflow.store.address import parse_url
from fibflow.store.database import Database, Session, read, write
from fibflow.store.schema import check_schema, newest
from fibflow.store.tasktypes import Declaration

WORK = [Declaration("work")]


@pytest.fixture(autouse=True)
def no_database_in_the_environment(monkeypatch):
    for name in ("FIBFLOW_DATABASE", "FIBFLOW_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


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


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_on_sqlite_writers_queue_through_an_engine_too(database_url):
    engine = sa.create_engine(database_url)
    with Client(engine) as client, closing(sqlite3.connect(engine.url.database or "", timeout=0)) as other:

        def other_may_write(session: Session) -> bool:
            session.now()  # a statement that only reads
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            other.rollback()
            return True

        assert client.do(read(other_may_write))
        assert not client.do(write(other_may_write)), "before anything is written"
    engine.dispose()


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
