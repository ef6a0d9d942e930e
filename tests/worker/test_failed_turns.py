"""A turn that the database failed is taken again soon, whether or not anything else happens meanwhile."""

import asyncio
import time

from fibflow import Client, Status
from fibflow.errors import DatabaseUnavailable
from fibflow.store import settle
from fibflow.store.database import Database
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings
from scripted_app import app

RARELY = Settings(pod_id="pod-0", poll_interval=60, heartbeat_interval=60, lease=600, drain=2)


class CutOnce(Database):
    """A database that fails the first settle, after a while."""

    def __init__(self, url):
        super().__init__(url)
        self.cut = asyncio.Event()

    async def once(self, verb, *args, **kwargs):
        if verb in (settle.settle, settle.settle_and_claim) and args[1] and not self.cut.is_set():
            await asyncio.sleep(0.1)  # the other turn is at the door by now
            self.cut.set()
            raise DatabaseUnavailable("cut off")
        return await super().once(verb, *args, **kwargs)


def test_results_that_could_not_be_settled_are_settled_a_moment_later(postgres_url):
    async def story():
        database = CutOnce(postgres_url)
        app.sync(database)
        worker = Worker(app, database, RARELY)
        running = asyncio.create_task(worker.run())
        client = Client(database)
        task_id = client.enqueue("threaded", {"n": 3})
        await asyncio.wait_for(database.cut.wait(), 20)
        deadline = time.monotonic() + 5
        while client.get(task_id).status is Status.RUNNING and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        status = client.get(task_id).status
        worker.stop()
        await running
        await database.aclose()
        return status

    assert asyncio.run(story()) is Status.COMPLETED
