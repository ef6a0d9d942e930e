"""The operator as a whole: it takes part in the election, and leads when it wins.

The parts know nothing of one another; here they are put together, and taken apart again when a lead ends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fibflow.errors import OtherInstallation
from fibflow.logs import logger
from fibflow.store.database import Database
from fibflow_operator.controller import Watch
from fibflow_operator.election import Election, Times
from fibflow_operator.health import LEFT_LYING, Health, serve
from fibflow_operator.kube import resources
from fibflow_operator.kube.api import Api
from fibflow_operator.kube.leases import Leases
from fibflow_operator.leading import Leading, Periods
from fibflow_operator.observed import LEADER, OBSERVED
from fibflow_operator.world import Kind, Resource, seen
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
    """Lists, statuses and Events through the API server."""

    api: Api
    identity: str

    async def list_all(self, kind: Kind, namespace: str | None) -> resources.Listed:
        return await self.api.run(resources.list_all, self.api, kind, namespace)

    async def write_status(self, resource: Resource, status: Mapping[str, Any]) -> Resource | None:
        return await self.api.run(resources.write_status, self.api, resource, status)

    async def tell(self, resource: Resource, reason: str, message: str, warning: bool) -> None:
        await self.api.run(resources.tell, self.api, resource, reason, message, warning, self.identity)


class Operator:
    """One process of the control plane."""

    def __init__(self, api: Api, database: Database, settings: Settings) -> None:
        self._api = api
        self._database = database
        self._settings = settings
        leases = Leases(api, settings.lease_namespace, settings.lease_name, round(settings.times.duration))
        self._election = Election(api, leases, settings.identity, settings.times)
        self._leading: Leading | None = None
        self._watch: Watch | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises OtherInstallation."""
        health = Health(self._complaints)
        server = serve(health, self._settings.port)
        tasks = [asyncio.ensure_future(health.beat()), asyncio.ensure_future(self._election.run(self._lead))]
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
            self._api.close()

    async def _lead(self, transitions: int) -> None:
        settings = self._settings
        writer = Writer(self._database, settings.installation, settings.identity, transitions, confirm=self._election.confirm)
        leading = Leading(writer, ThroughApi(self._api, settings.identity), settings.namespaces or (None,), settings.periods)
        loop = asyncio.get_running_loop()

        def deliver(kind: str, event: str | None, raw: Mapping[str, Any]) -> None:
            resource = seen({"kind": kind, **raw})
            loop.call_soon_threadsafe(leading.see, resource, event == "DELETED")

        watch = Watch(self._api.credentials, settings.namespaces, deliver)
        self._leading, self._watch = leading, watch
        LEADER.set(1)
        try:
            watch.start()
            await leading.run()
        except* OtherInstallation as refused:
            raise refused.exceptions[0] from None
        finally:
            self._leading = self._watch = None
            EPOCH.set(0)
            LEADER.set(0)
            OBSERVED.forget()
            await asyncio.to_thread(watch.stop)

    def _complaints(self) -> list[str]:
        leading, watch = self._leading, self._watch
        if leading is None or watch is None:
            return []
        lying = {"rows": leading.rows.oldest, "reports": leading.reports.oldest}
        found = [f"{name}: a key has been lying for {age:.0f} s" for name, age in lying.items() if age > LEFT_LYING]
        return found if watch.alive else [*found, "the watch has ended"]
