"""The operator as a whole: it takes part in the election, and leads when it wins.

The parts know nothing of one another; here they are put together, and taken apart again when a lead ends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fibflow.errors import DatabaseUnavailable, OtherInstallation, one_line
from fibflow.logs import logger
from fibflow.store.database import Database
from fibflow.store.installation import check_installation
from fibflow.store.schema import check_schema
from fibflow.store.synced import Name
from fibflow_operator.election import Election, Times
from fibflow_operator.health import Health, serve
from fibflow_operator.kube import resources, workloads
from fibflow_operator.kube.api import Api
from fibflow_operator.kube.leases import Leases
from fibflow_operator.leading import Leading, Periods
from fibflow_operator.observed import LEADER, OBSERVED
from fibflow_operator.sources import Sources
from fibflow_operator.workload_cache import Budget, Deployment
from fibflow_operator.world import Kind, Resource
from fibflow_operator.writing import EPOCH, Writer

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """How an operator is run. `namespaces`: those that are watched, none for all."""

    installation: str
    identity: str
    namespaces: tuple[str, ...]
    lease_namespace: str
    lease_name: str
    port: int
    times: Times = field(default_factory=Times)
    periods: Periods = field(default_factory=Periods)


@dataclass(slots=True)
class ThroughApi:
    """What the leader does through the API server. Lists, statuses and Events, which are many, hold up nothing else."""

    api: Api
    telling: Api
    identity: str

    async def list_all(self, kind: Kind, namespace: str | None, some: Callable[[Sequence[Resource]], None]) -> resources.Listed:
        loop = asyncio.get_running_loop()

        def soon(found: Sequence[Resource]) -> None:
            loop.call_soon_threadsafe(some, found)

        return await self.telling.run(resources.list_all, self.telling, kind, namespace, soon)

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource | None:
        return await self.telling.run(resources.write_status, self.telling, resource, status)

    async def tell(self, resource: Resource, reason: str, message: str, warning: bool) -> None:
        await self.telling.run(resources.tell, self.telling, resource, reason, message, warning, self.identity)

    async def find(self, place: Name) -> Deployment | None:
        return await self.api.run(workloads.find, self.api, place)

    async def find_budget(self, place: Name) -> Budget | None:
        return await self.api.run(workloads.find_budget, self.api, place)

    async def create(self, place: Name, body: Mapping[str, Any]) -> Deployment:
        return await self.api.run(workloads.create, self.api, place, body)

    async def apply(self, place: Name, body: Mapping[str, Any]) -> Deployment:
        return await self.api.run(workloads.apply, self.api, place, body)

    async def create_budget(self, place: Name, body: Mapping[str, Any]) -> Budget:
        return await self.api.run(workloads.create_budget, self.api, place, body)

    async def apply_budget(self, place: Name, body: Mapping[str, Any]) -> Budget:
        return await self.api.run(workloads.apply_budget, self.api, place, body)

    async def scale(self, seen: Deployment, replicas: int) -> bool:
        return await self.api.run(workloads.scale, self.api, seen, replicas)

    async def pod_uid(self, pod: Name) -> str | None:
        return await self.api.run(workloads.pod_uid, self.api, pod)

    async def remove(self, seen: Deployment) -> None:
        await self.api.run(workloads.remove, self.api, seen)

    async def remove_budget(self, seen: Budget) -> None:
        await self.api.run(workloads.remove_budget, self.api, seen)

    async def cost(self, pod: Name, cost: str | None) -> None:
        await self.api.run(workloads.cost, self.api, pod, cost)


class Operator:
    """One process of the control plane."""

    def __init__(self, api: Api, database: Database, settings: Settings) -> None:
        self._api = api
        self._database = database
        self._settings = settings
        leases = Leases(api, settings.lease_namespace, settings.lease_name, round(settings.times.duration))
        self._renewing = api.apart()
        self._election = Election(self._renewing, leases, settings.identity, settings.times)
        self._through = ThroughApi(api, api.apart(), settings.identity)
        self._fits = False
        self._leading: Leading | None = None
        self._sources: Sources | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises OtherInstallation, SchemaMismatch."""
        health = Health(self._complaints)
        server = serve(health, self._awaited, self._settings.port)
        tasks = [asyncio.ensure_future(health.beat()), asyncio.ensure_future(self._take_part())]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, tasks[1].cancel)
        try:
            with suppress(asyncio.CancelledError):
                await tasks[1]
        finally:
            tasks[0].cancel()
            await self._election.give_back()
            server.shutdown()
            await self._database.aclose()
            for api in (self._api, self._renewing, self._through.telling):
                api.close()

    async def _take_part(self) -> None:
        await fitting(self._database, self._settings.installation)
        self._fits = True
        log.info("taking_part", identity=self._settings.identity)
        await self._election.run(self._lead)

    async def _lead(self, transitions: int) -> None:
        settings = self._settings
        writer = Writer(self._database, settings.installation, settings.identity, transitions, confirm=self._election.confirm)
        places = settings.namespaces or (None,)
        sources = self._sources = Sources(self._api, settings.namespaces)
        leading = Leading(writer, self._through, places, settings.periods, follow=sources.start, watch=sources.watch)
        self._leading = leading
        LEADER.set(1)
        try:
            await leading.run()
        except* OtherInstallation as refused:
            raise refused.exceptions[0] from None
        finally:
            self._leading = self._sources = None
            EPOCH.set(0)
            LEADER.set(0)
            OBSERVED.forget()
            await sources.stop()

    def _awaited(self) -> list[str]:
        return [] if self._fits else ["the database has not been seen yet"]

    def _complaints(self) -> list[str]:
        leading, sources = self._leading, self._sources
        found = [] if leading is None else leading.complaints()
        return found if sources is None or sources.alive else [*found, "a watch has ended"]


async def fitting(database: Database, installation: str) -> None:
    """Return once the database is there. Raises SchemaMismatch if its schema is not ours, OtherInstallation."""
    while True:
        try:
            await asyncio.to_thread(check_schema, database)
            await database.run(check_installation, installation)
            return
        except DatabaseUnavailable as error:
            log.warning("database_awaited", error=one_line(error))
            await asyncio.sleep(2)
