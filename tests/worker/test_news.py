"""What is announced while a claim is under way is claimed next, whatever its place in the order."""

import asyncio

from fibflow import Client, Status
from fibflow.store import polling
from fibflow.store.claim import claim
from fibflow.store.database import Database
from fibflow_worker import lanes
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings
from fibflow_worker.turns import Turns
from scripted_app import app

RARELY = Settings(poll_interval=60, heartbeat_interval=60, lease=600, drain=2)


class Overtaken(Database):
    """A database where, while the claim of the first task is on its way back, a more urgent one comes, and is heard of."""

    def __init__(self, url):
        super().__init__(url)
        self.first, self.second = Client(url), Client(url)  # each of which tells of what it enqueues
        self.tasks: list[int] = []
        self.signs: asyncio.Queue[str] = asyncio.Queue()
        self.looks = asyncio.Semaphore(0)

    async def run(self, verb, *args, **kwargs):
        result = await super().run(verb, *args, **kwargs)
        if verb is polling.poll:
            self.looks.release()
        if verb is claim and result and len(self.tasks) == 1:
            while not self.signs.empty():
                self.signs.get_nowait()
            self.tasks.append(self.second.enqueue("threaded", {"n": 2}, priority=20))
            await self.shown("announced")
            await self.shown("looked again")
        return result

    async def shown(self, sign):
        """Wait for the next such sign."""
        async with asyncio.timeout(20):
            while await self.signs.get() != sign:
                continue


def test_a_more_urgent_task_that_is_announced_during_a_claim_runs_at_once(postgres_url, monkeypatch):
    async def story():
        database = Overtaken(postgres_url)
        announce, look_again = Turns.work_announced, Turns._look_again

        def announce_and_tell(self):
            announce(self)
            database.signs.put_nowait("announced")

        def look_and_tell(self):
            look_again(self)
            database.signs.put_nowait("looked again")

        monkeypatch.setattr(Turns, "work_announced", announce_and_tell)
        monkeypatch.setattr(Turns, "_look_again", look_and_tell)
        monkeypatch.setattr(lanes, "MARKED", 600)
        app.sync(database)
        worker = Worker(app, database, RARELY)
        running = asyncio.create_task(worker.run())
        for _ in ("it has begun", "it is listening"):  # after that it looks for itself only after a minute
            await asyncio.wait_for(database.looks.acquire(), 20)
        await database.shown("looked again")
        database.tasks.append(database.first.enqueue("threaded", {"n": 1}))
        async with asyncio.timeout(20):
            while len(database.tasks) < 2 or database.first.get(database.tasks[1]).status is not Status.COMPLETED:
                await asyncio.sleep(0.02)
        worker.stop()
        await running
        database.first.close()
        database.second.close()
        await database.aclose()

    asyncio.run(story())
