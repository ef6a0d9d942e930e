"""Lanes: what the application says of its types reaches the database in the order in which it was said."""

import asyncio
from typing import Any, cast

from fibflow.store.tasktypes import declare_types
from fibflow_worker.lanes import Lanes
from fibflow_worker.settings import Settings
from fibflow_worker.slots import Slots
from fix_semantics import serving


class Slow:
    """A database that stores the first declaration when it is told to, and whatever else at once."""

    def __init__(self):
        self.stored = []
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def run(self, verb, *args, **_named):
        if verb is not declare_types:
            return {}
        ((declaration,),) = args
        if not self.asked.is_set():
            self.asked.set()
            await self.released.wait()
        self.stored.append(declaration.options.timeout)
        return {declaration.name: 1}


def test_a_declaration_that_takes_its_time_does_not_come_after_a_later_one():
    async def course():
        database, app = Slow(), serving(work=lambda ctx: None)
        lanes = Lanes(app, cast(Any, database), Slots(1), Settings())
        first = asyncio.create_task(lanes.refresh())
        await database.asked.wait()
        app.add("work", lambda ctx: None, timeout=2)
        second = asyncio.create_task(lanes.refresh())
        for _ in range(3):
            await asyncio.sleep(0)
        database.released.set()
        await asyncio.gather(first, second)
        return database.stored

    assert asyncio.run(course()) == [None, 2]
