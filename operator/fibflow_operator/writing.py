"""The database as a leader writes to it: every write names its lead, and a refused one is counted.

A lead that the database does not know (any more) is asked for again, but only while the Lease is ours: the database may
have been wiped, or restored. If it is not ours, another leads, and the write was refused for good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fibflow.errors import DatabaseError, LeadLost
from fibflow.logs import logger
from fibflow.metrics import counter, gauge
from fibflow.store.database import Database
from fibflow.store.installation import Footing, Lead, count_refused, footing, take_lead

log = logger(__name__)
REFUSED = counter("fibflow_operator_stale_writes", "Writes under a lead that was lost, refused by the database.")
EPOCH = gauge("fibflow_operator_epoch", "The epoch under which this operator leads; 0 while it does not.")


class Writer:
    """What a leader writes with. `confirm` says whether the Lease is still ours."""

    def __init__(
        self,
        database: Database,
        installation: str,
        holder: str,
        transitions: int,
        confirm: Callable[[], Awaitable[bool]],
    ) -> None:
        self.database = database
        self._installation = installation
        self._holder = holder
        self._transitions = transitions
        self._confirm = confirm
        self._lead = Lead(0, holder)

    @property
    def lead(self) -> Lead:
        """The lead as it was taken last: another object if it was taken anew, as from a database that was wiped."""
        return self._lead

    async def take(self) -> None:
        """Take the lead in the database. Raises DatabaseError, OtherInstallation."""
        self._lead = await self.database.run(take_lead, self._installation, self._holder, self._transitions)
        EPOCH.set(self._lead.epoch)
        log.info("lead_taken", epoch=self._lead.epoch, holder=self._holder)

    async def footing(self) -> Footing:
        """What our writes stand on; a lead that the database does not know is taken anew. Raises DatabaseError."""
        lead, found = self._lead, await self.database.run(footing, self._installation)
        if found.lead == lead:
            return found
        await self._regain(lead)
        return await self.database.run(footing, self._installation)

    async def write(self, verb: Callable[..., Any], *args: Any) -> Any:
        """Run a leader's verb. Raises LeadLost, and what the verb raises."""
        lead = self._lead
        try:
            return await self.database.run(verb, lead, *args)
        except LeadLost:
            REFUSED.inc()
            log.warning("stale_write_refused", epoch=lead.epoch, verb=verb.__name__)
            with suppress(DatabaseError):
                await self.database.run(count_refused)
            await self._regain(lead)
            raise

    async def _regain(self, lead: Lead) -> None:
        if lead == self._lead and await self._confirm():
            await self.take()
