"""The fence of an operator's writes: epoch and holder, on both databases."""

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from fibflow.errors import LeadLost, OtherInstallation
from fibflow.model import Options
from fibflow.store.database import Database, Session
from fibflow.store.installation import Lead, check_installation, count_refused, footing, installed, take_lead
from fibflow.store.synced import (
    DeletionPolicy,
    Name,
    PoolRow,
    TypeRow,
    cancel_deleted,
    forget_pools,
    forget_types,
    stored_pools,
    sync_pools,
    sync_types,
)
from fibflow.store.synced_crons import forget_crons, sync_crons
from fibflow.store.tables import installation

POOL = PoolRow(Name("default", "pool"), "a:b", None, 1, 1, 30)
TYPE = TypeRow(Name("default", "one"), "one", Options(), None, None, False, DeletionPolicy.DRAIN)


def take(database, holder="a", transitions=0, name="x/y") -> Lead:
    lead: Lead = database.call(take_lead, name, holder, transitions)
    return lead


@pytest.mark.parametrize(("stored", "transitions", "epoch"), [(None, 0, 1), (None, 7, 8), (3, 0, 4), (3, 3, 4), (3, 9, 10)])
def test_a_lead_is_taken_above_the_databases_epoch_and_the_leases(database, stored, transitions, epoch):
    if stored is not None:
        take(database, "before", stored - 1)
    assert take(database, "a", transitions) == Lead(epoch, "a")


def test_another_installation_may_neither_lead_nor_look(database):
    take(database)
    looks = (lambda: database.call(check_installation, "other"), lambda: database.call(footing, "other"))
    for refused in (lambda: take(database, name="other"), *looks):
        with pytest.raises(OtherInstallation, match="serves the installation 'x/y' and not 'other'"):
            refused()
    database.call(check_installation, "x/y")


def test_a_database_that_nobody_led_may_be_looked_at_by_anybody(database):
    database.call(check_installation, "x/y")
    assert database.call(installed) is None


def test_a_footing_is_another_after_a_wipe_under_another_lead_and_on_another_server(database):
    take(database)
    first = database.call(footing, "x/y")
    assert database.call(footing, "x/y") == first
    take(database, "b")
    second = database.call(footing, "x/y")
    assert second == replace(first, lead=Lead(2, "b"), written_by=second.written_by)
    with database.engine.begin() as connection:
        connection.execute(sa.delete(installation))
    assert database.call(footing, "x/y") == replace(first, lead=None, written_by=None)
    if database.postgresql:
        assert second.written_by != first.written_by
        since = sa.text("SELECT pg_postmaster_start_time()")
        with database.engine.connect() as connection:
            assert first.server_since == connection.execute(since).scalar()


WRITES = {
    "sync_types": (sync_types, [TYPE]),
    "sync_pools": (sync_pools, [POOL]),
    "sync_crons": (sync_crons, []),
    "forget_types": (forget_types, [TYPE.resource]),
    "forget_pools": (forget_pools, [POOL.resource]),
    "forget_crons": (forget_crons, [Name("default", "cron")]),
    "cancel_deleted": (cancel_deleted, 1),
}
STALE = {
    "an older epoch": lambda lead: Lead(lead.epoch - 1, lead.holder),
    "another holder under the same epoch": lambda lead: Lead(lead.epoch, "b"),
    "an epoch that is not reached yet": lambda lead: Lead(lead.epoch + 1, lead.holder),
}


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize("verb", WRITES)
def test_every_write_is_refused_under_another_lead_and_none_stays(database, verb, stale):
    lead = take(database)
    database.call(sync_pools, lead, [POOL])
    write, rows = WRITES[verb]
    with pytest.raises(LeadLost, match="does not lead under epoch"):
        database.call(write, STALE[stale](lead), rows)
    assert database.call(stored_pools) == {POOL.resource: POOL}
    database.call(write, lead, rows)


def test_nobody_leads_a_database_that_was_wiped(database):
    lead = take(database, "old", 4)
    with database.engine.begin() as connection:
        connection.execute(sa.delete(installation))
    with pytest.raises(LeadLost):
        database.call(sync_pools, lead, [POOL])
    assert take(database, "new", 4) == Lead(lead.epoch, "new")  # the same epoch: the holder tells them apart
    with pytest.raises(LeadLost):
        database.call(sync_pools, lead, [POOL])


def test_refused_writes_are_counted(database):
    take(database)
    database.call(count_refused)
    database.call(count_refused)
    assert database.call(installed).refused == 2


def test_a_new_leader_waits_for_a_write_under_way(postgres_url):
    database = Database(postgres_url)
    lead = take(database)
    taken = threading.Event()
    with database.engine.connect() as connection:
        sync_pools(Session(connection), lead, [POOL])
        thread = threading.Thread(target=_take_and_tell, args=(database, taken))
        thread.start()
        while not _waits(database):
            assert not taken.is_set()
        connection.commit()
    thread.join()
    assert taken.is_set() and database.call(stored_pools)
    database.close()


def _take_and_tell(database, taken: threading.Event) -> None:
    take(database, "b")
    taken.set()


def _waits(database) -> bool:
    with database.engine.connect() as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return bool(connection.exec_driver_sql(waiting).scalar())
