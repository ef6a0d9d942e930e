"""A turn that the database failed is taken again soon, whether or not anything else happens meanwhile."""

import asyncio
import functools
import time

from fibflow import Client, Status
from fibflow.errors import DatabaseUnavailable
from fibflow.store import settle
from fibflow.store.database import Database
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings
from scripted_app import app

SETTLES = (settle.settle, settle.settle_and_claim)
RARELY = Settings(pod_id="pod-0", poll_interval=60, heartbeat_interval=60, lease=600, drain=2)


class CutOnce(Database):
    """A database that fails the first settle, after a while."""

    def __init__(self, url):
        super().__init__(url)
        self.cut = asyncio.Event()

    async def once(self, verb, *args, **kwargs):
        if verb in SETTLES and args[1] and not self.cut.is_set():
            await asyncio.sleep(0.1)  # the other turn is at the door by now
            self.cut.set()
            raise DatabaseUnavailable("cut off")
        return await super().once(verb, *args, **kwargs)


class ReadOnlyTwice(Database):
    """A database in which the first two settles are in transactions that may not write, as on a server that is a standby."""

    def __init__(self, url):
        super().__init__(url)
        self.left = iter(range(2))
        self.refused = asyncio.Event()

    async def once(self, verb, *args, **kwargs):
        return await super().once(self._refusing(verb, args), *args, **kwargs)

    async def run(self, verb, *args, **kwargs):
        return await super().run(self._refusing(verb, args), *args, **kwargs)

    def _refusing(self, verb, args):
        if verb not in SETTLES or not args[1] or (number := next(self.left, None)) is None:
            return verb
        if number == 1:
            self.refused.set()

        @functools.wraps(verb)
        def read_only(session, *args, **kwargs):
            session.connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            return verb(session, *args, **kwargs)

        return read_only


def test_results_that_could_not_be_settled_are_settled_a_moment_later(postgres_url):
    database = CutOnce(postgres_url)
    assert asyncio.run(outcome(database, database.cut)) is Status.COMPLETED


def test_a_database_that_takes_no_writes_for_a_while_fails_no_task(postgres_url):
    database = ReadOnlyTwice(postgres_url)
    assert asyncio.run(outcome(database, database.refused)) is Status.COMPLETED


async def outcome(database, failed):
    """What becomes of a task whose settle fails at first, soon after that."""
    app.sync(database)
    worker = Worker(app, database, RARELY)
    running = asyncio.create_task(worker.run())
    client = Client(database)
    task_id = client.enqueue("threaded", {"n": 3})
    await asyncio.wait_for(failed.wait(), 20)
    deadline = time.monotonic() + 5
    while client.get(task_id).status is Status.RUNNING and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    status = client.get(task_id).status
    worker.stop()
    await running
    await database.aclose()
    return status
