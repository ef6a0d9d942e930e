"""Reconciling against a real PostgreSQL and an API server in memory (shelf.py): any order of events ends in the same rows."""

import asyncio
import itertools
import math
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.shelf import Shelf
from fibflow.client import Client
from fibflow.errors import DatabaseUnavailable, OtherInstallation
from fibflow.store import figures, synced
from fibflow.store.database import Database, read, write
from fibflow.store.installation import footing
from fibflow.store.synced import Name, stored_pools, stored_types
from fibflow.store.synced_crons import stored_crons
from fibflow.store.tables import SCHEMA, installation, metadata, schema_version, task_type
from fibflow_operator import comparison, plan, workload_cache, writing
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.leading import Leading
from fibflow_operator.observed import OBSERVED
from fibflow_operator.queue import Queue
from fibflow_operator.reconcile import report, tasktype
from fibflow_operator.world import Key, Kind
from fibflow_operator.writing import Writer
from fix_database import move_clock

numbers = itertools.count(1)

SPECS = {
    Kind.WORKER_POOL: [{"app": "a:b"}, {"app": "c:d", "replicas": 0}],
    Kind.TASK_TYPE: [
        {"timeoutSeconds": 1},
        {"timeoutSeconds": 2, "deletionPolicy": "Cancel"},
        {"name": "one"},
        {"workerPoolRef": {"name": "one"}, "deletionPolicy": "Retain"},
        {"worker": {"app": "a:b", "image": "i:1"}},
    ],
    Kind.CRON_TASK: [
        {"taskTypeRef": {"name": "one"}, "schedule": "0 3 * * *"},
        {"taskTypeRef": {"name": "two"}, "schedule": "0 4 * * *", "suspend": True},
        {"taskTypeRef": {"name": "one"}, "schedule": "0 0 30 2 *"},
    ],
}
NAMES = st.sampled_from(["one", "two"])
PUTS = st.one_of(*(st.tuples(st.just("put"), st.just(kind), NAMES, st.sampled_from(specs)) for kind, specs in SPECS.items()))
STEPS = st.one_of(
    PUTS,
    PUTS,
    st.tuples(st.just("delete"), st.sampled_from(list(Kind)), NAMES),
    st.tuples(st.just("deliver"), st.integers(0, 30)),
    st.sampled_from([("settle",), ("list",), ("look",), ("crash",), ("crash_between",)]),
)


class Stage:
    """An operator without its clocks and loops: a test turns the handle."""

    def __init__(self, shelf: Shelf, database: Database) -> None:
        self.shelf, self.database = shelf, database
        self.now = 0.0

    async def begin(self) -> None:
        writer = Writer(self.database, "test/fibflow", f"holder-{next(numbers)}", 0, confirm=self._confirm)
        rows: Queue[Key] = Queue(lambda: self.now)
        reports: Queue[Key] = Queue(lambda: self.now)
        self.leading = Leading(writer, self.shelf, [self.shelf.namespace], rows=rows, reports=reports)
        await writer.take()

    async def _confirm(self) -> bool:
        return True

    async def settle(self) -> None:
        leading = self.leading
        for _ in range(20):
            self.now += 100
            while keys := leading.rows.take(500):
                await leading.syncing.sync(keys)
            while keys := leading.reports.take(32):
                await leading.syncing.tell(keys)
            if not leading.rows and not leading.reports:
                return
        raise AssertionError("it does not settle")

    async def compare(self) -> None:
        await self.leading.list()
        await self.leading.look()
        await self.settle()
        await self.leading.look()  # what was just written is in the figures now
        await self.settle()

    async def reconcile_workers(self) -> None:
        """Do what is due about workers."""
        controller = self.leading.controller
        while keys := controller.workers.take(10):
            for key in keys:
                await controller._reconcile(key)
        await self.settle()

    async def take(self, step) -> None:
        name, *arguments = step
        await getattr(self, f"_{name}")(*arguments)

    async def _put(self, kind, name, spec) -> None:
        self.shelf.put(kind, name, spec)

    async def _delete(self, kind, name) -> None:
        self.shelf.delete(kind, name)

    async def _deliver(self, back) -> None:
        """An event that is new, late, or comes a second time."""
        if self.shelf.events:
            self.leading.see(*self.shelf.events[-1 - back % len(self.shelf.events)])

    async def _settle(self) -> None:
        await self.settle()

    async def _list(self) -> None:
        await self.leading.list()

    async def _look(self) -> None:
        await self.leading.look()

    async def _crash(self) -> None:
        await self.begin()

    async def _crash_between(self) -> None:
        """Some rows are written, and no status."""
        await self.leading.list()
        await self.leading.syncing.sync(self.leading.rows.take(2))
        await self.begin()

    async def rows(self) -> dict[Key, str]:
        """What is in force in the namespace, without the namespace."""
        found: dict[Key, str] = {}
        for kind, stored in STORED.items():
            for name, row in (await self.database.run(stored)).items():
                if name.namespace == self.shelf.namespace:
                    found[Key(kind, "here", name.name)] = repr(row).replace(self.shelf.namespace, "here")
        return found


STORED: dict[Kind, Any] = {
    Kind.WORKER_POOL: stored_pools,
    Kind.TASK_TYPE: stored_types,
    Kind.CRON_TASK: stored_crons,
}


@asynccontextmanager
async def stage(url: str, shelf: Shelf | None = None):
    database = Database(url)
    made = Stage(shelf or Shelf(f"space-{next(numbers)}"), database)
    await made.begin()
    try:
        yield made
    finally:
        await database.aclose()


@pytest.fixture(scope="module")
def url(postgres_server, postgres_template) -> Iterator[str]:
    yield postgres_server.create("reconcile", postgres_template)


class Writes:
    """The statements that change or lock anything, while the block runs."""

    def __init__(self, database: Database) -> None:
        self.found: list[str] = []
        self._engine = database.async_engine.sync_engine

    def __enter__(self):
        sa.event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *failure):
        sa.event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, connection, cursor, statement, parameters, context, many):
        if not statement.startswith("SELECT") or " FOR " in statement:
            self.found.append(statement)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=25))
def test_any_order_of_events_ends_in_the_same_rows_and_a_second_pass_writes_nothing(url, steps):
    async def scene():
        async with stage(url) as one, stage(url) as other:
            await one.begin()
            for step in steps:
                await one.take(step)
            await one.compare()
            found = await one.rows()
            with Writes(one.database) as writes:
                before = one.shelf.statuses_written
                one.leading.rows.add(key for kind in Kind for key in list(one.leading.world.keys(kind)))
                await one.compare()
                assert (writes.found, one.shelf.statuses_written - before) == ([], 0)
            await other.begin()
            one.shelf.copy_to(other.shelf)
            await other.compare()
            expected = await other.rows()
            assert expected == {key: row for key, row in found.items() if key in expected}
            assert [key for key in found if one.leading.world.get(key._replace(namespace=one.shelf.namespace)) is None] == []

    asyncio.run(scene())


def played(url, play):
    async def scene():
        async with stage(url) as one:
            return await play(one)

    return asyncio.run(scene())


def condition(stage, kind, name, type_="Ready"):
    found = {each["type"]: each for each in stage.shelf.status(kind, name)["conditions"]}[type_]
    return found["status"], found["reason"]


def test_one_row_that_the_database_refuses_does_not_stop_the_others(url, monkeypatch):

    refused = synced.sync_types

    def sync(session, lead, rows):
        refused(session, lead, rows)
        if any(row.name == "bad" for row in rows):
            session.connection.execute(sa.text("SELECT 1 / 0"))

    monkeypatch.setattr(tasktype, "sync_types", sync)

    async def play(one):
        for name in ("a", "bad", "c", "d"):
            one.shelf.put(Kind.TASK_TYPE, name, {})
        await one.compare()
        assert len(await one.rows()) == 3
        assert condition(one, Kind.TASK_TYPE, "bad") == ("False", "RefusedByDatabase")
        assert condition(one, Kind.TASK_TYPE, "c") == ("True", "InForce")

    played(url, play)


HEIRS: dict[str, dict[str, Any]] = {
    "refused by what it says": {"workerPoolRef": {"name": "none"}},
    "refused by the database": {"description": "bad"},
}


@pytest.mark.parametrize("heir", HEIRS)
def test_a_type_that_is_deleted_goes_by_its_own_policy_though_its_heir_is_refused(url, monkeypatch, heir):
    stores = synced.sync_types

    def sync(session, lead, rows):
        stores(session, lead, rows)
        if any(row.description == "bad" for row in rows):
            session.connection.execute(sa.text("SELECT 1 / 0"))

    monkeypatch.setattr(tasktype, "sync_types", sync)

    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "first", {"name": "index"})
        await one.compare()
        one.shelf.put(Kind.TASK_TYPE, "heir", {"name": "index", **HEIRS[heir]})
        await one.compare()
        assert condition(one, Kind.TASK_TYPE, "heir") == ("False", "NameConflict")
        one.shelf.delete(Kind.TASK_TYPE, "first")
        await one.compare()
        assert await one.rows() == {} and await drains(one, "index")
        assert condition(one, Kind.TASK_TYPE, "heir", "Synced") == ("False", "NothingStored")
        one.shelf.put(Kind.TASK_TYPE, "heir", {"name": "index"})
        await one.compare()
        assert condition(one, Kind.TASK_TYPE, "heir") == ("True", "InForce") and not await drains(one, "index")

    played(url, play)


@pytest.mark.parametrize("together", [True, False])
def test_of_two_types_of_one_name_that_were_made_in_the_same_second_the_first_by_name_has_it(url, together):
    """Nothing tells their age, and a new leader is to decide as the last one did."""

    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "b", {"name": "index", "deletionPolicy": "Cancel"}, created="now")
        if not together:
            await one.compare()
            assert condition(one, Kind.TASK_TYPE, "b") == ("True", "InForce")
        one.shelf.put(Kind.TASK_TYPE, "a", {"name": "index"}, created="now")
        await one.leading.list()
        await one.settle()
        await one.begin()
        await one.leading.list()
        await one.settle()
        assert [key.name for key in await one.rows()] == ["a"] and not await drains(one, "index")
        assert condition(one, Kind.TASK_TYPE, "a") == ("True", "InForce")
        assert condition(one, Kind.TASK_TYPE, "b") == ("False", "NameConflict")
        assert condition(one, Kind.TASK_TYPE, "b", "Synced") == ("False", "NothingStored")
        with Writes(one.database) as writes:
            await one.compare()
            assert writes.found == []

    played(url, play)


def test_a_row_passes_to_its_heir_that_was_refused_and_says_something_else_now(url, monkeypatch):
    def sync(session, lead, rows, stores=synced.sync_types):
        stores(session, lead, rows)
        if any(row.description == "bad" for row in rows):
            session.connection.execute(sa.text("SELECT 1 / 0"))

    monkeypatch.setattr(tasktype, "sync_types", sync)

    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "first", {"name": "index", "deletionPolicy": "Cancel"})
        one.shelf.put(Kind.TASK_TYPE, "heir", {"name": "index", "description": "bad"})
        await one.compare()
        one.shelf.delete(Kind.TASK_TYPE, "first")
        await one.leading.list()
        await one.settle()
        assert condition(one, Kind.TASK_TYPE, "heir") == ("False", "RefusedByDatabase")
        one.shelf.put(Kind.TASK_TYPE, "heir", {"name": "index"})
        await one.leading.list()
        await one.leading.look()
        monkeypatch.setattr(tasktype.TaskTypes, "forget", None)  # nothing may end
        await one.settle()
        assert condition(one, Kind.TASK_TYPE, "heir") == ("True", "InForce")

    played(url, play)


def test_a_row_waits_for_its_heir_until_it_is_known_whether_there_is_the_pool_that_it_names(url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "first", {"name": "index", "deletionPolicy": "Cancel"})
        one.shelf.put(Kind.WORKER_POOL, "pool", {"app": "a:b"})
        one.shelf.put(Kind.TASK_TYPE, "heir", {"name": "index", "workerPoolRef": {"name": "pool"}})
        await one.compare()
        await one.begin()
        one.shelf.delete(Kind.TASK_TYPE, "first")
        list_all = one.shelf.list_all

        async def refused(kind, namespace, some):
            if kind is Kind.WORKER_POOL:
                raise ApiRefused(403, "not allowed")
            return await list_all(kind, namespace, some)

        one.shelf.list_all = refused
        await one.compare()
        assert not await drains(one, "index")
        one.shelf.list_all = list_all
        await one.compare()
        assert condition(one, Kind.TASK_TYPE, "heir", "Synced") == ("True", "Stored")

    played(url, play)


async def drains(stage, type_name) -> bool:
    """Whether a type takes no new tasks."""

    def look(session):
        named = sa.and_(task_type.c.namespace == stage.shelf.namespace, task_type.c.name == type_name)
        return session.connection.execute(sa.select(task_type.c.draining).where(named)).scalar_one()

    found: bool = await stage.database.run(read(look))
    return found


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


def test_a_list_that_fails_deletes_nothing(url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        await one.compare()
        list_all = one.shelf.list_all

        async def refused(kind, namespace, some):
            if kind is Kind.TASK_TYPE:
                raise ApiRefused(403, "not allowed")
            return await list_all(kind, namespace, some)

        one.shelf.list_all = refused
        await one.compare()
        assert len(await one.rows()) == 1

    played(url, play)


def test_a_resource_that_cannot_be_understood_stops_nobody_else(url, monkeypatch):

    pool_row = plan.pool_row

    def broken(resource):
        if resource.key.name == "bad":
            raise RecursionError("too deep")
        return pool_row(resource)

    monkeypatch.setattr(plan, "pool_row", broken)

    async def play(one):
        for name in ("bad", "good"):
            one.shelf.put(Kind.WORKER_POOL, name, {"app": "a:b"})
        await one.compare()
        assert condition(one, Kind.WORKER_POOL, "bad") == ("False", "InvalidSpec")
        assert condition(one, Kind.WORKER_POOL, "good", "Synced") == ("True", "Stored")

    played(url, play)


def test_a_spec_that_only_the_answer_to_a_status_write_shows_is_in_force_too(url):
    async def play(one):
        one.shelf.put(Kind.WORKER_POOL, "one", {"app": "a:b"})
        one.leading.see(*one.shelf.events[-1])
        one.shelf.put(Kind.WORKER_POOL, "one", {"app": "c:d"})
        await one.settle()
        stored = await one.database.run(stored_pools)
        assert stored[Name(one.shelf.namespace, "one")].app == "c:d"
        assert one.shelf.status(Kind.WORKER_POOL, "one")["observedGeneration"] == 2

    played(url, play)


def test_what_somebody_wrote_into_a_status_unseen_is_taken_out_again(url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        one.leading.see(*one.shelf.events[-1])
        one.shelf.edit_status(Kind.TASK_TYPE, "one", lastOutcome="lost", conditions="none")
        await one.settle()
        assert "lastOutcome" not in one.shelf.status(Kind.TASK_TYPE, "one")
        assert condition(one, Kind.TASK_TYPE, "one", "Synced") == ("True", "Stored")

    played(url, play)


@pytest.mark.parametrize("seen", ["before", "while"])
def test_a_status_never_tells_of_a_spec_that_is_not_settled_yet(url, seen, monkeypatch):
    async def play(one):
        key = Key(Kind.CRON_TASK, one.shelf.namespace, "it")
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 3 * * *"})
        await one.compare()

        def change():
            one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 0 30 2 *"})
            one.leading.see(*one.shelf.events[-1])

        async def gather(scene, keys, gathered=report.gather):
            found = await gathered(scene, keys)
            if seen == "while":
                change()
            return found

        with monkeypatch.context() as patched:
            patched.setattr(report, "gather", gather)
            if seen == "before":
                change()
            one.leading.reports.add([key])
            await one.leading.syncing.tell(one.leading.reports.take(1))
        assert one.shelf.status(Kind.CRON_TASK, "it")["observedGeneration"] == 1
        await one.settle()
        assert condition(one, Kind.CRON_TASK, "it") == ("False", "InvalidSchedule")
        assert one.shelf.status(Kind.CRON_TASK, "it")["observedGeneration"] == 2

    played(url, play)


def test_what_changes_is_told_by_an_event_and_what_goes_well_from_the_start_is_not(url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 0 30 2 *"})
        await one.compare()
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 0 3 2 *"})
        await one.compare()
        assert one.shelf.told == [("it", "InvalidSchedule"), ("it", "InForce")]

    played(url, play)


def test_workers_of_a_types_own_come_with_what_it_says_of_them_and_go_without(url):
    async def play(one):
        one.leading.scene.cache.deployments.see_all(one.shelf.namespace, 0, [])
        one.leading.scene.cache.budgets.see_all(one.shelf.namespace, 0, [])
        one.leading.controller.see_pods(one.shelf.namespace, 0, [], 0.0)
        one.shelf.put(Kind.WORKER_POOL, "pool", {"app": "a:b"})
        one.shelf.put(Kind.TASK_TYPE, "one", {"worker": {"app": "a:b", "image": "i:1"}})
        await one.compare()
        await one.reconcile_workers()
        assert one.shelf.done == ["create", "create budget", "apply"]
        assert condition(one, Kind.TASK_TYPE, "one") == ("False", "WorkersStarting")
        assert condition(one, Kind.TASK_TYPE, "one", "ScalingActive") == ("False", "ReplicasDecide")
        assert (await pool_of(one)) == "TaskType.one"
        one.shelf.done.clear()
        one.shelf.put(Kind.TASK_TYPE, "one", {"workerPoolRef": {"name": "pool"}})
        await one.compare()
        await one.reconcile_workers()
        assert one.shelf.done == ["remove budget", "remove"] and not one.shelf.deployments
        assert condition(one, Kind.TASK_TYPE, "one") == ("True", "InForce")
        assert (await pool_of(one)) == "pool"
        assert "selector" not in one.shelf.status(Kind.TASK_TYPE, "one")

    played(url, play)


async def pool_of(stage):
    name = Name(stage.shelf.namespace, "one")
    return (await stage.database.run(stored_types, [name]))[name].pool


def test_a_deployment_of_somebody_else_outlives_a_type_without_workers(url):
    async def play(one):
        place = Name(one.shelf.namespace, "one-type")
        body = {"metadata": {"namespace": place.namespace, "name": place.name}, "spec": {}}
        one.leading.scene.cache.deployments.see_all(place.namespace, 0, [await one.shelf.create(place, body)])
        one.leading.scene.cache.budgets.see_all(place.namespace, 0, [await one.shelf.create_budget(place, body)])
        one.shelf.done.clear()
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        await one.compare()
        await one.reconcile_workers()
        assert one.shelf.done == []

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


class Scaled(Shelf):
    """Tells when anything was scaled."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.scaled = asyncio.Event()

    async def scale(self, seen, replicas):
        done = await super().scale(seen, replicas)
        self.scaled.set()
        return done

    def others_scale(self, replicas: int) -> None:
        """Somebody else scales the one Deployment that there is."""
        ((place, raw),) = self.deployments.items()
        self._put(self.deployments, place, {"metadata": {}, "spec": {**raw["spec"], "replicas": replicas}})
        self.done.clear()
        self.scaled.clear()


SPOILT = {
    "not a number": {"app": "a:b", "image": "i:1", "replicas": "many"},
    "no policy that there is": {"app": "a:b", "image": "i:1", "scaling": {"policy": ["Most"]}},
    "no object": {"app": "a:b", "image": "i:1", "scaling": 7},
    "beyond a bound": {"app": "a:b", "image": "i:1", "replicas": 10**30},
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("kind", [Kind.WORKER_POOL, Kind.TASK_TYPE])
def test_workers_are_scaled_as_the_last_spec_says_that_was_accepted_also_by_the_next_leader(url, kind, spoilt):
    async def says(one, workers):
        one.shelf.put(kind, "one", workers if kind is Kind.WORKER_POOL else {"worker": workers})
        one.leading.see(*one.shelf.events[-1])

    async def scales_to_three(one):
        one.shelf.others_scale(8)
        see_the_ground(one)
        scaling = asyncio.ensure_future(one.leading.autoscaler.run())
        one.leading.autoscaler.work.set()
        waiting = asyncio.ensure_future(one.shelf.scaled.wait())
        await asyncio.wait([waiting, scaling], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert one.shelf.done == ["scale 3"] and not scaling.done()
        scaling.cancel()

    async def play():
        async with stage(url, Scaled(f"space-{next(numbers)}")) as one:
            see_the_ground(one)
            await says(one, {"app": "a:b", "image": "i:1", "replicas": 3})
            await one.settle()
            await one.reconcile_workers()
            await says(one, spoilt)
            await scales_to_three(one)  # nobody has judged the newest spec yet
            await one.settle()
            assert condition(one, kind, "one", "Synced") == ("False", "LastGoodInForce")
            await scales_to_three(one)
            await one.begin()
            await one.compare()
            await scales_to_three(one)

    asyncio.run(play())


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_while_the_database_is_away_replicas_are_obeyed_unless_their_spec_is_refused(url, monkeypatch, spoilt):
    async def away(verb, *arguments):
        raise DatabaseUnavailable("the database is not available")

    async def says(one, spec):
        one.shelf.put(Kind.WORKER_POOL, "one", spec)
        one.leading.see(*one.shelf.events[-1])
        await one.leading.syncing.sync(one.leading.rows.take(10))
        return [each.wanted for each in one.leading.autoscaler.sizes()]

    async def play(one):
        monkeypatch.setattr(one.database, "run", away)
        assert await says(one, {"app": "a:b", "image": "i:1", "replicas": 3}) == [3]
        one.now += 100
        assert await says(one, spoilt) == [3]
        one.now += 100
        assert await says(one, {"app": "a:b", "image": "i:1", "replicas": 4}) == [4]

    played(url, play)


def see_the_ground(one):
    """What there is of Deployments, budgets and pods is known."""
    scene, place = one.leading.scene, one.shelf.namespace
    scene.cache.deployments.see_all(place, 10**6, [workload_cache.deployment(raw) for raw in one.shelf.deployments.values()])
    scene.cache.budgets.see_all(place, 10**6, [workload_cache.budget(raw) for raw in one.shelf.budgets.values()])
    one.leading.controller.see_pods(place, 0, [], 0.0)
