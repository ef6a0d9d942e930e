"""What is counted and what is logged is what was committed: once, however often it was tried."""

import asyncio
import logging

import pytest
import sqlalchemy as sa

from fibflow import Client
from fibflow.metrics import STALE_WRITES
from fibflow.store import control, cron, cron_reading, deciding
from fibflow.store.clock import from_datetime
from fibflow.store.database import Database, write
from fibflow.store.repeats import Transient
from fibflow.store.stale import record_stale
from fibflow.store.tables import cron_tick
from fibflow.store.tasktypes import Declaration
from fix_database import move_clock


def called(database, verb, *args):
    """Run a verb in this thread."""
    return database.call(verb, *args)


def awaited(database, verb, *args):
    """Await a verb, over connections of its own."""

    async def within():
        other = Database(database.url.render_as_string(hide_password=False))
        other.clock = database.clock
        try:
            return await other.run(verb, *args)
        finally:
            await other.aclose()

    return asyncio.run(within())


BOTH_WAYS = pytest.mark.parametrize("way", [called, awaited])


class Failing:
    """A verb that does what another does, and then fails so often before it lets it be committed."""

    def __init__(self, verb, failures, error):
        self.verb, self.failures, self.error = verb, failures, error

    def __call__(self, session, *args):
        result = self.verb(session, *args)
        self.failures -= 1
        if self.failures >= 0:
            raise self.error
        return result


def refuse(session):
    record_stale(session, 1, 1, 1, "complete")


def counted():
    return STALE_WRITES.labels(verb="complete")._value.get()


def told(caplog, event):
    return sum(f"'event': '{event}'" in str(record.msg) for record in caplog.records)


@BOTH_WAYS
def test_a_stale_write_is_counted_once_when_its_transaction_is_repeated(database, way):
    before = counted()
    way(database, Failing(refuse, 2, Transient("deadlock")))
    assert counted() == before + 1


@BOTH_WAYS
def test_a_stale_write_that_is_rolled_back_is_not_counted(database, way):
    before = counted()
    with pytest.raises(RuntimeError, match="on purpose"):
        way(database, Failing(refuse, 1, RuntimeError("on purpose")))
    assert counted() == before


@BOTH_WAYS
def test_the_log_tells_once_what_was_committed_and_nothing_else(database, way, caplog):
    caplog.set_level(logging.DEBUG, "fibflow")
    client = Client(database)
    client.declare_types([Declaration("work")])
    task_id = client.enqueue("work")
    with pytest.raises(RuntimeError, match="on purpose"):
        way(database, Failing(control.cancel, 1, RuntimeError("on purpose")), task_id)
    assert told(caplog, "task_cancelled") == 0
    way(database, Failing(control.cancel, 1, Transient("deadlock")), task_id)
    assert told(caplog, "task_cancelled") == 1


def test_a_cron_task_that_is_undone_tells_of_no_task(database, caplog):
    caplog.set_level(logging.DEBUG, "fibflow")
    Client(database).declare_types([Declaration("work")])
    database.call(cron.put_cron, cron.CronDeclaration("hourly", "work", "0 * * * *"))
    (hourly,) = database.call(cron_reading.crons)
    database.call(_occupy, hourly.id, from_datetime(hourly.next_at))
    move_clock(database, 3601)
    assert database.call(deciding.decide_ticks) == 1
    assert (told(caplog, "cron_not_decided"), told(caplog, "cron_decided"), told(caplog, "task_created")) == (1, 0, 0)


def test_that_a_cron_task_was_not_decided_is_told_when_that_is_committed(database, caplog):
    Client(database).declare_types([Declaration("work")])
    database.call(cron.put_cron, cron.CronDeclaration("hourly", "work", "0 * * * *"))
    (hourly,) = database.call(cron_reading.crons)
    database.call(_occupy, hourly.id, from_datetime(hourly.next_at))
    move_clock(database, 3601)
    with pytest.raises(RuntimeError, match="on purpose"):
        database.call(Failing(deciding.decide_ticks, 1, RuntimeError("on purpose")))
    assert told(caplog, "cron_not_decided") == 0


@write
def _occupy(session, cron_id, instant):
    """The instant has its row already, so that nobody can decide it."""
    row = {"cron_id": cron_id, "tick": instant, "through": instant, "count": 1, "decision": "skip", "reason": "taken"}
    session.connection.execute(sa.insert(cron_tick).values(row | {"decided_at": instant}))
