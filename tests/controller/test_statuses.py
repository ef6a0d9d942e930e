"""What a status says, of which spec, and what an Event is written for."""

import pytest

from controller.stage import condition, played
from fibflow.store.synced import Name, stored_pools
from fibflow_operator.reconcile import report
from fibflow_operator.world import Key, Kind


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
