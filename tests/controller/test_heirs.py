"""Types of one name: who has the row, and to whom it passes when a resource goes."""

from typing import Any

import pytest
import sqlalchemy as sa

from controller.stage import Writes, condition, drains, played
from fibflow.store import synced
from fibflow_operator.kube.api import ApiRefused
from fibflow_operator.reconcile import tasktype
from fibflow_operator.world import Kind

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
