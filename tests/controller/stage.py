"""An operator on a stage: a real PostgreSQL, an API server in memory (shelf.py), and a test that turns the handle."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa

from controller.shelf import Shelf
from fibflow.store.database import Database, read
from fibflow.store.synced import stored_pools, stored_types
from fibflow.store.synced_crons import stored_crons
from fibflow.store.tables import task_type
from fibflow_operator import workload_cache
from fibflow_operator.leading import Leading
from fibflow_operator.queue import Queue
from fibflow_operator.world import Key, Kind
from fibflow_operator.writing import Writer

numbers = itertools.count(1)


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
    """An operator that has the lead, and a namespace that nobody else has."""
    database = Database(url)
    made = Stage(shelf or Shelf(f"space-{next(numbers)}"), database)
    await made.begin()
    try:
        yield made
    finally:
        await database.aclose()


def played(url, play):
    """What a play on such a stage comes to."""

    async def scene():
        async with stage(url) as one:
            return await play(one)

    return asyncio.run(scene())


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


def condition(stage, kind, name, type_="Ready"):
    """Status and reason of a condition, as the status tells it."""
    found = {each["type"]: each for each in stage.shelf.status(kind, name)["conditions"]}[type_]
    return found["status"], found["reason"]


async def drains(stage, type_name) -> bool:
    """Whether a type takes no new tasks."""

    def look(session):
        named = sa.and_(task_type.c.namespace == stage.shelf.namespace, task_type.c.name == type_name)
        return session.connection.execute(sa.select(task_type.c.draining).where(named)).scalar_one()

    found: bool = await stage.database.run(read(look))
    return found


def see_the_ground(one):
    """What there is of Deployments, budgets and pods is known."""
    scene, place = one.leading.scene, one.shelf.namespace
    scene.cache.deployments.see_all(place, 10**6, [workload_cache.deployment(raw) for raw in one.shelf.deployments.values()])
    scene.cache.budgets.see_all(place, 10**6, [workload_cache.budget(raw) for raw in one.shelf.budgets.values()])
    one.leading.controller.see_pods(place, 0, [], 0.0)
