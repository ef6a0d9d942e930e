"""The heartbeat waits for nothing else that its worker does, and for no lock of others."""

import time

import pytest
import sqlalchemy as sa

from fibflow import NewTask, Options, Outcome, Status
from fibflow.store import tables
from fibflow.store.database import read
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings
from fix_semantics import serving, until


async def echo(ctx, payload):
    return payload


@read
def limits(session):
    """What the server says of this connection; seconds."""
    if not session.postgresql:
        return [session.connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() / 1000]
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
    query = sa.text("SELECT CAST(setting AS int) FROM pg_settings WHERE name = :name AND unit = 'ms'")
    shown = [session.connection.execute(query, {"name": name}).scalar_one() for name in names]
    of_the_socket = session.connection.connection.driver_connection.info.get_parameters()["tcp_user_timeout"]
    return [milliseconds / 1000 for milliseconds in (*shown, int(of_the_socket))]


def test_the_limits_of_a_workers_connections_follow_from_its_lease(workplace):
    worker = Worker(serving(), workplace.connections(), Settings(lease=3, heartbeat_interval=1))
    lock, idle, statement, network = 0.5, 1, 30, 1
    postgresql = workplace.database.postgresql
    assert worker._own.call(limits) == ([lock, idle, statement, network] if postgresql else [1])
    assert worker._registration.beating.call(limits) == ([0.5] * 4 if postgresql else [0.5])
    assert max(lock, idle, network) < worker.settings.lease / 2
    assert worker._registration.beating.engine is not worker._own.engine is not worker.database.engine
    workplace.within(worker._disconnect())


def test_a_patience_that_is_shorter_than_the_lease_asks_for_stays(workplace):
    database = workplace.connections()
    database.patience = 0.25
    worker = Worker(serving(), database, Settings(lease=3, heartbeat_interval=1))
    assert worker._own.patience == worker._registration.beating.patience == 0.25


def test_a_renewal_that_is_stuck_is_repeated_inside_the_lease(workplace, monkeypatch):
    """Somebody holds the worker's row for a while, as a reaper that is stopped would."""
    failed = []
    monkeypatch.setattr("fibflow_worker.heartbeat.log.warning", lambda event, **told: failed.append(event))
    worker = workplace.start(serving(work=echo), lease=6, heartbeat_interval=3)
    valid_until = worker._registration.heartbeat.valid_until
    with workplace.database.engine.connect() as holding:
        holding.execute(sa.update(tables.worker).values(slots=7))
        until(lambda: failed)
    until(lambda: worker._registration.heartbeat.valid_until > valid_until)
    assert time.monotonic() < valid_until
    assert workplace.worker(worker.worker_id).status == "active"


ONCE = Options(timeout=1, max_attempts=1)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_lock_of_others_delays_no_renewal_and_no_other_end(workplace, hand):
    """Whoever sweeps must count a child that timed out off its parent, which somebody holds."""
    (child,) = hand.spawn(parent := hand.take(), NewTask("other", options=ONCE))
    hand.again(child, "other")
    alone = hand.take(timeout=1, max_attempts=1)
    worker = workplace.start(serving(served=echo))
    with workplace.database.engine.connect() as holding:
        holding.execute(sa.select(tables.task).where(tables.task.c.id == parent.id).with_for_update())
        workplace.move_clock(60)
        workplace.beats(worker.worker_id, 5)
        assert workplace.ended(alone.id).last_outcome is Outcome.TIMEOUT
        assert workplace.client.get(child).status is Status.RUNNING
    assert workplace.ended(child).last_outcome is Outcome.TIMEOUT
    assert workplace.client.get(parent.id).status is Status.PENDING
