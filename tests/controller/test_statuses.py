"""What a status says, of which spec, and what an Event is written for."""

import pytest
import sqlalchemy as sa

from controller.stage import condition, played
from fibflow.client import Client
from fibflow.store.synced import Name, stored_pools
from fibflow.store.tasktypes import Declaration
from fibflow_operator.reconcile import report, tasktype
from fibflow_operator.world import Key, Kind, in_order


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


def test_a_type_that_only_code_declares_mends_a_cron_task_whose_last_good_row_is_in_force(url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 3 * * *"})
        await one.compare()
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "coded"}, "schedule": "0 3 * * *"})
        await one.compare()
        assert condition(one, Kind.CRON_TASK, "it") == ("False", "TaskTypeNotFound")
        assert condition(one, Kind.CRON_TASK, "it", "Synced") == ("False", "LastGoodInForce")
        with Client(url, namespace=one.shelf.namespace) as client:
            client.declare_types([Declaration("coded")])
        await one.leading.look()
        await one.settle()
        assert condition(one, Kind.CRON_TASK, "it") == ("True", "InForce")

    played(url, play)


def test_a_database_that_takes_a_spec_after_all_has_it_in_force(url, monkeypatch):
    def refusing(session, lead, rows):
        session.connection.execute(sa.text("SELECT 1 / 0"))

    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        await one.compare()
        one.shelf.put(Kind.TASK_TYPE, "one", {"timeoutSeconds": 7})
        with monkeypatch.context() as patched:
            patched.setattr(tasktype, "sync_types", refusing)
            await one.compare()
        assert condition(one, Kind.TASK_TYPE, "one") == ("False", "RefusedByDatabase")
        assert condition(one, Kind.TASK_TYPE, "one", "Synced") == ("False", "LastGoodInForce")
        await one.leading.look()
        await one.settle()
        assert condition(one, Kind.TASK_TYPE, "one") == ("True", "InForce")

    played(url, play)


def test_that_a_type_is_not_found_is_not_told_while_it_is_being_stored(url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {})
        for name in ("a", "b"):
            one.shelf.put(Kind.CRON_TASK, name, {"taskTypeRef": {"name": "one"}, "schedule": "0 3 * * *"})
        await one.leading.list()
        rows = one.leading.rows
        types, crons = rows.take(1), rows.take(2)
        assert [key.kind for key in (*types, *crons)] == [Kind.TASK_TYPE, Kind.CRON_TASK, Kind.CRON_TASK]
        await one.leading.syncing.sync(crons)
        assert not one.leading.reports
        await one.leading.syncing.sync(types)
        await one.settle()
        assert condition(one, Kind.CRON_TASK, "a") == ("True", "InForce")
        assert one.shelf.told == []

    played(url, play)


def test_that_a_type_is_not_found_is_told_once_the_type_is_refused(url):
    async def play(one):
        one.shelf.put(Kind.TASK_TYPE, "one", {"workerPoolRef": {"name": "none"}})
        one.shelf.put(Kind.CRON_TASK, "it", {"taskTypeRef": {"name": "one"}, "schedule": "0 3 * * *"})
        await one.leading.list()
        types, crons = one.leading.rows.take(1), one.leading.rows.take(1)
        await one.leading.syncing.sync(crons)
        await one.leading.syncing.sync(types)
        await one.settle()
        await one.leading.look()
        await one.settle()
        assert condition(one, Kind.CRON_TASK, "it") == ("False", "TaskTypeNotFound")

    played(url, play)


def test_what_is_looked_at_after_a_wipe_comes_in_the_order_in_which_it_is_needed():
    kinds = [Kind.CRON_TASK, Kind.WORKER_POOL, Kind.TASK_TYPE]
    assert [key.kind for key in in_order({Key(kind, "shop", "one") for kind in kinds})] == list(Kind)
