"""What an operator does while it leads: it takes keys from two queues, `rows` and `reports`, and fills them.

Events and comparisons put keys into `rows`; a key whose row is synced goes on into `reports`, and, if it has workers, into the
queue of the worker controller, which puts it into `reports` again. Whatever fails is tried again; only a lead that belongs
to another ends the leading. What is done with a key is in `syncing`; about resources nothing is decided here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Protocol

from fibflow.errors import DatabaseError, LeadLost, OtherInstallation, one_line
from fibflow.logs import logger
from fibflow.metrics import gauge, histogram
from fibflow.store.health import database_health
from fibflow.store.listen import Listener
from fibflow.store.notices import CHANNEL
from fibflow.store.synced import cancel_deleted
from fibflow_operator.autoscaler import Autoscaler
from fibflow_operator.comparison import Glance, Hearing, Lists, listed
from fibflow_operator.health import Rounds, left_lying
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.observed import OBSERVED
from fibflow_operator.queue import Queue
from fibflow_operator.reconcile.pod_recovery import Pods
from fibflow_operator.reconcile.report import Teller
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.reconcile.workers import Workloads
from fibflow_operator.syncing import Syncing
from fibflow_operator.worker_controller import WorkerController
from fibflow_operator.world import Key, Kind, Resource, World, in_order
from fibflow_operator.writing import Writer

log = logger(__name__)
ROWS_AT_ONCE = 100
ROW_WORKERS = 2
REPORT_WORKERS = 3
REPORTS_AT_ONCE = 32
LIST_FIRST = 30.0
"""Seconds for which the watch waits for the first list and its rows, at most."""
ROWS_FIRST = 5.0
"""Seconds for which a status waits for rows, at most."""
WATCH_BEGINS = 5.0
"""Seconds after which a watch that was begun has most likely listed what it watches."""
CANCELLED_AT_ONCE = 100

TOOK = histogram(
    "fibflow_operator_reconcile_seconds",
    "What one batch of keys took.",
    (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60),
    ["stage"],
)
QUEUED = gauge("fibflow_operator_queue", "Keys that wait or are worked on.", ["stage"])
LYING = gauge("fibflow_operator_queue_oldest_seconds", "Since when the oldest key that is ready has not been taken.", ["stage"])
DATABASE_UP = gauge("fibflow_operator_database_up", "1 if this leader's last look at the database succeeded.")
API_UP = gauge("fibflow_operator_api_up", "1 if this leader's last lists of the API server were complete.")


class Cluster(Lists, Teller, Workloads, Pods, Protocol):
    """Where resources are listed, statuses and Events written, Deployments changed, pods looked up."""


@dataclass(frozen=True, slots=True)
class Periods:
    """Seconds between two whole lists, and between two looks at the database."""

    list: float = 60.0
    look: float = 5.0
    health: float = 30.0


async def _at_once() -> None:
    """Nothing goes first."""


@dataclass(slots=True)
class Leading:
    """One time of leading; a new one begins with nothing."""

    writer: Writer
    cluster: Cluster
    namespaces: Sequence[str | None]
    periods: Periods = field(default_factory=Periods)
    world: World = field(default_factory=World)
    rows: Queue[Key] = field(default_factory=Queue)
    reports: Queue[Key] = field(default_factory=Queue)
    glance: Glance = field(default_factory=Glance)
    follow: Callable[[Leading], None] = lambda leading: None
    """Begins to tell it of Deployments and pods."""
    watch: Callable[[Leading], None] = lambda leading: None
    """Begins to tell it of resources, or begins anew."""
    rounds: Rounds = field(default_factory=Rounds)
    hearing: Hearing = field(default_factory=Hearing)
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a look at the database was tried: a status written before would say that nothing is paused or waits."""
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once whole lists were tried."""
    _listing: asyncio.Lock = field(default_factory=asyncio.Lock)
    scene: Scene = field(init=False)
    controller: WorkerController = field(init=False)
    autoscaler: Autoscaler = field(init=False)
    syncing: Syncing = field(init=False)

    def __post_init__(self) -> None:
        self.scene = Scene(self.world, self.writer)
        self.autoscaler = Autoscaler(self.scene, self.cluster, self.reports.add, self.rounds)
        self.controller = WorkerController(self.scene, self.cluster, self.reports.add, self.rounds, told=self.autoscaler.told)
        self.syncing = Syncing(self.scene, self.cluster, self.rows, self.reports, self.controller.synced)
        for stage, queue in self._queues.items():
            QUEUED.labels(stage).set_function(queue.__len__)
            LYING.labels(stage).set_function(partial(getattr, queue, "oldest"))

    @property
    def _queues(self) -> dict[str, Queue[Key]]:
        return {"rows": self.rows, "reports": self.reports}

    def see(self, resource: Resource, deleted: bool) -> None:
        """An event came."""
        self.hearing.heard += 1
        self.rows.add(self.world.see_deletion(resource) if deleted else self.world.see(resource))

    async def run(self) -> None:
        """Lead until cancelled. Raises OtherInstallation."""
        try:
            await self._lead()
        finally:  # what lies in the queues of a lead that is over waits for nobody
            for stage in self._queues:
                QUEUED.labels(stage).set_function(lambda: 0)
                LYING.labels(stage).set_function(lambda: 0)

    async def _lead(self) -> None:
        await self._take()
        await self._remember()
        self.follow(self)  # what was told before would lie until the database is there
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller.recover_pods())
            group.create_task(self.controller.reconcile_workers())
            group.create_task(self.autoscaler.run())
            group.create_task(Listener(self.writer.database, CHANNEL, self.autoscaler.heard).run())
            group.create_task(_repeated(self.list, self.periods.list))
            group.create_task(self._begin_to_watch())
            group.create_task(_repeated(self.look, self.periods.look))
            group.create_task(_repeated(self.examine, self.periods.health))
            for number in range(ROW_WORKERS):
                group.create_task(self._work("rows", number, ROWS_AT_ONCE, self.syncing.sync))
            await self.looked.wait()
            for number in range(REPORT_WORKERS):
                group.create_task(self._work("reports", number, REPORTS_AT_ONCE, self.syncing.tell, self._rows_first))

    async def _take(self) -> None:
        while True:
            try:
                return await self.writer.take()
            except OtherInstallation:
                raise
            except DatabaseError as error:
                log.warning("lead_not_taken", error=one_line(error))
                await asyncio.sleep(1)

    async def _remember(self) -> None:
        try:
            await self.controller.remember()
        except DatabaseError as error:
            log.warning("leaseholders_not_read", error=one_line(error))

    def complaints(self) -> list[str]:
        """What does not go on, from any thread."""
        stalled = {name: queue.stalled for name, queue in self._queues.items()}
        stalled |= {"workers": self.controller.workers.stalled, "pods": self.controller.pods.stalled}
        return left_lying(stalled) + self.rounds.complaints()

    # ── filling the queues ────────────────────────────────────────────────────────────────────────────────────

    async def list(self) -> None:
        """Compare with the API server."""
        found: list[set[Key] | None] = []
        async with self._listing:
            for kind, namespace in product(Kind, self.namespaces):
                with self.rounds.at("list"):
                    found.append(await listed(self.scene, self.cluster, kind, namespace, self.rows.add))
        API_UP.set(None not in found)
        self.listed.set()
        self.controller.try_again()
        if self.hearing.is_dead(any(found)):
            self.watch(self)

    async def _begin_to_watch(self) -> None:
        """A watch begins with an event for each resource, which takes as long as to store the ten thousand of the first list.

        What changed since that list is among those events, what was deleted is not: hence another list.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LIST_FIRST):
                await self.listed.wait()
                await self.rows.drained.wait()
        self.watch(self)
        await asyncio.sleep(WATCH_BEGINS)
        await self.list()

    async def look(self) -> None:
        """Compare with the database; go on cancelling what is to be cancelled."""
        try:
            with self.rounds.at("look"):
                found = await self.glance.look(self.scene)
                self.rows.add(in_order(found.rows))
                self.reports.add(found.reports)
                self.looked.set()
                await self.controller.remember(found.anew)
            if found.to_cancel:
                await self._cancel()
        except OtherInstallation:
            raise
        except Exception as error:  # one row that cannot be read ends no lead
            self.looked.set()
            DATABASE_UP.set(0)
            OBSERVED.forget()
            known = isinstance(error, DatabaseError | LeadLost)
            (log.warning if known else log.exception)("database_not_looked_at", error=one_line(error))
            return
        DATABASE_UP.set(1)

    async def examine(self) -> None:
        """Look at the database's health, which decides nothing here."""
        try:
            OBSERVED.health = await self.writer.database.run(database_health)
        except Exception as error:  # a plan or a statistic that is not understood ends no lead
            OBSERVED.health = None
            known = isinstance(error, DatabaseError)
            (log.warning if known else log.exception)("database_not_examined", error=one_line(error))

    async def _cancel(self) -> None:
        more = True
        while more:
            with self.rounds.at("cancel"):
                more = await self.writer.write(cancel_deleted, CANCELLED_AT_ONCE)

    # ── emptying them ─────────────────────────────────────────────────────────────────────────────────────────

    async def _work(
        self,
        stage: str,
        number: int,
        limit: int,
        work: Callable[[Collection[Key]], Awaitable[None]],
        before: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        queue = self._queues[stage]
        while True:
            keys = await queue.taking(limit)
            await before()
            with TOOK.labels(stage).time(), self.rounds.at(f"{stage} {number}"):
                await work(keys)

    async def _rows_first(self) -> None:
        """Ten thousand rows are in force sooner if no status is told meanwhile. That rows fail is told at once."""
        if not self.syncing.rows_fail:
            with suppress(TimeoutError):
                async with asyncio.timeout(ROWS_FIRST):
                    await self.rows.drained.wait()


async def _repeated(work: Callable[[], Awaitable[None]], period: float) -> None:
    """Again and again, with a pause that is longer than the work took, so that slow work is not the only work."""
    while True:
        begin = time.monotonic()
        with suppress(ApiFailure):
            await work()
        await asyncio.sleep(max(period, 5 * (time.monotonic() - begin)))
