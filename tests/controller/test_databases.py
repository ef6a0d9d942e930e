"""A database that is away, was wiped or restored, or serves somebody else by now; and how often it is asked."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from controller.stage import Writes, condition, played
from fibflow.client import Client
from fibflow.errors import DatabaseUnavailable, OtherInstallation
from fibflow.store import figures
from fibflow.store.database import read, write
from fibflow.store.installation import footing
from fibflow.store.synced import Name, stored_types
from fibflow.store.tables import SCHEMA, installation, metadata, schema_version, task_type
from fibflow_operator import comparison, writing
from fibflow_operator.observed import OBSERVED
from fibflow_operator.reconcile import report
from fibflow_operator.world import Kind
from fix_database import move_clock


@pytest.mark.parametrize(("takes", "again_in"), [(0.001, 0.05), (0.4, 20.0), (30.0, 60.0)])
def test_tasks_are_counted_the_less_often_the_longer_it_takes_and_a_pause_is_told_at_once(url, monkeypatch, takes, again_in):
    clock, counted = [0.0], []

    @read
    def counts(session):
        counted.append(clock[0])
        clock[0] += takes
        return figures.counts(session)

    monkeypatch.setattr(comparison, "counts", counts)

    async def play(one):
        one.leading.glance.clock = lambda: clock[0]
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        await one.compare()
        clock[0] += again_in + 1
        await one.compare()
        counted.clear()
        clock[0] += again_in + 1
        await one.leading.look()
        pause = sa.update(task_type).where(task_type.c.namespace == one.shelf.namespace).values(paused=True)
        await one.database.run(write(lambda session: session.connection.execute(pause)))
        first = clock[0]
        for moment in (first + 0.9 * again_in, first + 1.1 * again_in):
            clock[0] = moment
            await one.leading.look()
            await one.settle()
            assert condition(one, Kind.TASK_TYPE, "one", "Paused") == ("True", "PausedByCommand")
        assert counted == [first - takes, first + 1.1 * again_in]

    played(url, play)


def test_after_a_wipe_no_count_of_before_is_told(url):
    async def play(one):
        one.leading.glance.clock = lambda: 0.0
        for name in ("zebra", "adder"):  # a wiped database gives them their ids in the other order
            one.shelf.put(Kind.TASK_TYPE, name, {})
            await one.compare()
        with Client(url, namespace=one.shelf.namespace) as client:
            for _ in range(3):
                client.enqueue("zebra")
        await one.compare()
        assert one.shelf.status(Kind.TASK_TYPE, "zebra")["pending"] == 3
        one.leading.glance.count_again_at = math.inf
        await one.database.run(write(wipe))
        for _ in range(3):  # one finds that the rows are gone, one that the lead is, one that all is as it should be
            await one.compare()
        assert [one.shelf.status(Kind.TASK_TYPE, name)["pending"] for name in ("zebra", "adder")] == [0, 0]

    played(url, play)


def wipe(session):
    tables = ", ".join(f"{SCHEMA}.{table.name}" for table in metadata.tables.values() if table is not schema_version)
    session.connection.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))


LESS: dict[str, dict[str, Any] | None] = {
    "restored from a backup of a former leader": {"holder": "long gone", "epoch": installation.c.epoch - 1},
    "restored from a backup of this one": {"refused": installation.c.refused},
    "a standby that had not heard of the last commits": None,
}
"""What of the lead is another then; the epoch that is taken anew may well be the one there was."""


@pytest.mark.parametrize("less", LESS)
def test_a_database_that_holds_less_than_was_committed_is_brought_up_to_date(url, monkeypatch, less):
    @read
    def another_server(session, installation):
        return replace(footing(session, installation), server_since="later")

    async def play(one):
        await one.begin()  # there was one before
        one.shelf.put(Kind.TASK_TYPE, "one", {"timeoutSeconds": 7})
        await one.compare()
        named = task_type.c.namespace == one.shelf.namespace
        back = sa.update(task_type).where(named).values(timeout=1, resource_options='{"timeout": 1.0}')
        await one.database.run(write(lambda session: session.connection.execute(back)))
        if (lead := LESS[less]) is None:
            monkeypatch.setattr(writing, "footing", another_server)
        else:
            earlier = sa.update(installation).values(lead)
            await one.database.run(write(lambda session: session.connection.execute(earlier)))
        await one.leading.look()
        assert (await one.database.run(footing, "test/fibflow")).lead == one.leading.scene.writer.lead
        await one.settle()
        stored = await one.database.run(stored_types, [Name(one.shelf.namespace, "one")])
        assert [row.options.timeout for row in stored.values()] == [7]
        assert condition(one, Kind.TASK_TYPE, "one", "Synced") == ("True", "Stored")
        with Writes(one.database) as writes:
            await one.compare()
            assert writes.found == []

    played(url, play)


def test_a_database_that_serves_another_installation_by_now_ends_the_lead(postgres_url):
    async def play(one):
        await one.compare()
        another = sa.update(installation).values(installation="other/fibflow")
        await one.database.run(write(lambda session: session.connection.execute(another)))
        with pytest.raises(OtherInstallation):
            await one.leading.look()

    played(postgres_url, play)


def test_without_a_database_a_status_says_so_and_keeps_what_it_told_of_pauses(url, monkeypatch):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 3 * * *"})
        await one.compare()
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 4 * * *"})
        one.leading.see(*one.shelf.events[-1])

        async def away(verb, *arguments):
            raise DatabaseUnavailable("the database is not available")

        run = one.database.run
        one.database.run = away
        await one.leading.syncing.sync(one.leading.rows.take(10))
        await one.leading.syncing.tell(one.leading.reports.take(10))
        assert condition(one, Kind.CRON_TASK, "it", "Synced") == ("False", "DatabaseUnavailable")
        assert condition(one, Kind.CRON_TASK, "it", "Paused") == ("False", "NotPaused")
        assert one.shelf.status(Kind.CRON_TASK, "it")["nextTickTimes"]
        one.database.run = run
        await one.settle()
        assert condition(one, Kind.CRON_TASK, "it") == ("True", "InForce")

    played(url, play)


def test_a_new_leader_tells_of_nothing_before_it_has_looked_at_the_database(url, monkeypatch):
    """It would tell that what is paused is not, and that nothing waits."""
    gathered, synced, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def look(self, scene, looks=comparison.Glance.look):
        await go_on.wait()
        return await looks(self, scene)

    async def gather(scene, keys, gathers=report.gather):
        gathered.set()
        return await gathers(scene, keys)

    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        await one.compare()
        monkeypatch.setattr(comparison.Glance, "look", look)
        monkeypatch.setattr(report, "gather", gather)
        await one.begin()
        monkeypatch.setattr(one.leading.syncing, "synced", lambda keys: synced.set())
        running = asyncio.ensure_future(one.leading.run())
        await asyncio.wait_for(synced.wait(), 20)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not gathered.is_set()
        go_on.set()
        await asyncio.wait_for(gathered.wait(), 20)
        running.cancel()
        await asyncio.wait([running])

    played(url, play)


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), KeyError("Plan")])
def test_a_database_whose_health_cannot_be_read_ends_no_lead(url, error):
    async def play(one):
        await one.leading.examine()
        assert OBSERVED.health is not None

        async def unread(verb, *arguments):
            raise error

        one.database.run = unread
        await one.leading.examine()
        assert OBSERVED.health is None

    played(url, play)


def test_where_there_is_no_worker_and_no_pool_the_operator_decides_instants(postgres_url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 * * * *"})
        await one.compare()
        move_clock(one.database, 3600)
        await one.leading.autoscaler._round([])
        await one.compare()
        assert one.shelf.status(Kind.CRON_TASK, "it")["lastOutcome"] == "pending"
        with Writes(one.database) as writes:
            await one.leading.autoscaler._round([])
            assert writes.found == []

    played(postgres_url, play)
