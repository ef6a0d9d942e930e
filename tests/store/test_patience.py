"""How long a call waits for others, and which limits follow from that."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from fibflow.errors import DatabaseUnavailable, InvalidInput
from fibflow.store import leases
from fibflow.store.database import Database, read, write
from fibflow.store.migrate import PATIENCE, upgrade
from fibflow.store.repeats import Transient
from fibflow.store.tables import worker
from fibflow_worker.settings import Settings
from fix_database import wait_for_a_lock
from fix_semantics import until


@pytest.fixture
def impatient(database_url):
    """A database whose calls wait for a fifth of a second."""
    opened = Database(database_url, patience=0.2)
    yield opened
    opened.close()


def awaited(database, verb, *args):
    async def within():
        try:
            return await database.run(verb, *args)
        finally:
            await database.aclose()

    return asyncio.run(within())


BOTH_WAYS = pytest.mark.parametrize("way", [lambda database, *call: database.call(*call), awaited], ids=["call", "run"])


@BOTH_WAYS
def test_a_call_waits_for_what_another_holds_as_long_as_its_patience_lasts(database, impatient, way):
    held = database.call(leases.register, pod_id="pod", host="host", pid=1, slots=1, lease=30.0)
    with database.engine.connect() as holding:
        holding.execute(sa.update(worker).values(paused=True))
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            way(impatient, leases.stop, held)
        assert 0.15 < time.monotonic() - began < 5
        holding.rollback()
    impatient.call(leases.stop, held)


@BOTH_WAYS
def test_repeats_end_by_time_and_not_by_number(database_url, way, monkeypatch):
    monkeypatch.setattr("tenacity.wait.random.uniform", lambda least, most: 0.01)
    tried = []

    @write
    def deadlocked(session):
        tried.append(time.monotonic())
        if len(tried) < 30:
            raise Transient("deadlock")

    patient = Database(database_url, patience=60)
    way(patient, deadlocked)
    assert len(tried) == 30
    hasty = Database(database_url, patience=0.1)
    tried.clear()

    @write
    def deadlocked_slowly(session):
        tried.append(time.monotonic())
        while time.monotonic() <= tried[0] + hasty.patience:
            pass
        raise Transient("deadlock")

    with pytest.raises(DatabaseUnavailable, match="deadlock"):
        way(hasty, deadlocked_slowly)
    assert len(tried) == 1
    patient.close()
    hasty.close()


@BOTH_WAYS
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_deadlock_is_repeated_and_both_get_what_they_want(database, database_url, way):
    patient = Database(database_url)
    ids = [database.call(leases.register, pod_id=f"pod-{n}", host="h", pid=1, slots=1, lease=30.0) for n in range(2)]
    first, second = (sa.select(worker.c.id).where(worker.c.id == id).with_for_update() for id in ids)
    tried = []

    @write
    def lock_both(session):
        tried.append(session.connection.exec_driver_sql("SET LOCAL deadlock_timeout = '2s'"))
        return [session.connection.execute(row).scalar_one() for row in (second, first)]

    with database.engine.connect() as other, ThreadPoolExecutor(1) as pool:
        other.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'")
        other.execute(first)
        ours = pool.submit(way, patient, lock_both)
        wait_for_a_lock(database, "%fibflow.worker%")
        other.execute(second)
        other.commit()
        assert (ours.result(), len(tried)) == (ids[::-1], 2)
    patient.close()


@BOTH_WAYS
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_repeat_waits_for_locks_no_longer_than_what_is_left_of_patience(database_url, way):
    limits = []

    @read
    def deadlocked_once(session):
        limits.append(session.connection.exec_driver_sql("SHOW lock_timeout").scalar_one())
        if len(limits) == 1:
            raise Transient("deadlock")

    database = Database(database_url, patience=60)
    way(database, deadlocked_once)
    first, second = limits
    assert first == "1min"
    assert second.endswith("ms") and int(second.removesuffix("ms")) < 60_000
    database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_who_takes_no_answer_keeps_no_lock(database, database_url):
    """A program that was stopped, or whose node is gone, while the server sends it what it asked for."""
    held = database.call(leases.register, pod_id="pod", host="host", pid=1, slots=1, lease=30.0)
    silent = Database(database_url, patience=0.5)
    with silent.engine.connect() as connection:
        ask = b"BEGIN; SELECT id FROM fibflow.worker FOR UPDATE; SELECT repeat('x', 40000000)"
        driver: Any = connection.connection.driver_connection
        driver.pgconn.send_query(ask)
        until(lambda: database.call(sending))
        database.call(leases.stop, held)
        connection.invalidate()
    silent.close()


@pytest.mark.parametrize("awaits", [False, True], ids=["call", "run"])
def test_an_answer_that_never_comes_is_not_waited_for(postgres_url, awaits):
    """A server, or what stands before it, takes every word and is silent: the network tells nothing of it."""
    database = Database(postgres_url, statement_timeout=0.2, patience=0.2)

    async def ask():
        asked = database.run(backend) if awaits else asyncio.to_thread(database.call, backend)
        return await asyncio.wait_for(asked, 10)

    async def story():
        frozen = await ask()
        os.kill(frozen, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseUnavailable, match="timeout"):
                await ask()
            assert await ask() != frozen
        finally:
            os.kill(frozen, signal.SIGCONT)
            await database.aclose()

    asyncio.run(story())


@read
def backend(session):
    """The process that serves this connection."""
    return session.connection.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()


@pytest.mark.parametrize(("options", "seconds"), [("", 34.0), ("?options=-c%20statement_timeout%3D1h", None)])
def test_a_limit_for_statements_in_the_address_is_the_only_one(options, seconds):
    assert Database(f"postgresql://host/name{options}", patience=4)._longest_wait == seconds


def test_a_migration_may_be_waited_for_longer(postgres_empty_url):
    database = Database(postgres_empty_url, statement_timeout=1)
    waits = []

    @write
    def migrated(session):
        upgrade(session, "")
        waits.append(session.connection.connection.driver_connection.longest)

    database.call(migrated)
    assert waits == [PATIENCE]
    database.close()


@read
def sending(session):
    """Whether a client of this database does not take what the server sends it."""
    query = sa.text("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'")
    return session.connection.execute(query).first() is not None


def test_every_limit_of_a_connection_follows_from_patience(database_url):
    database = Database(database_url, patience=4)

    @read
    def limits(session):
        if not session.postgresql:
            return [session.connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()]
        names = ("lock_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout")
        shown = [session.connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]
        return [*shown, session.connection.connection.driver_connection.info.get_parameters()["tcp_user_timeout"]]

    assert database.call(limits) == (["4s", "4s", "4000", "4000"] if database.postgresql else [4000])
    database.close()


def test_patience_is_below_half_of_the_default_lease(database_url):
    assert Database(database_url).patience < Settings().lease / 2


@pytest.mark.parametrize("patience", [0, -1, 0.009, float("nan"), float("inf"), 10**9, "10", None, True])
def test_a_patience_that_is_no_positive_number_of_seconds_is_refused(patience):
    with pytest.raises(InvalidInput, match=r"^patience: .* is not (a number )?between 0\.01 and 86,400"):
        Database("sqlite://", patience=patience)
