"""Reconciling against a real PostgreSQL: any order of events ends in the same rows, and what is refused stops nobody else."""

import asyncio

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.stage import Writes, condition, played, stage
from fibflow.store import synced
from fibflow_operator import plan
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.reconcile import tasktype
from fibflow_operator.world import Kind

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
