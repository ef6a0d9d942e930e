"""Who leads: at most one of several operators, by a Lease.

Protocol. Who leads renews every `retry` seconds; if that has not succeeded for `deadline` seconds, counted from when the
last good renewal was sent, it leads no more, though the Lease may run on. Who does not lead looks as often, and takes the
Lease when it is free, or has not changed for `duration` seconds by its own clock: clocks of two machines are never
compared. `deadline` is shorter than `duration`, so the old leader stops before the new one begins, as far as clocks can
promise that. For the rest, every write is fenced (fibflow/store/installation.py).

`choose` is pure. Which calls are made is in kube/leases.py, what a leader does in `leading`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from fibflow.logs import logger
from fibflow_operator.kube.api import Api, ApiFailure
from fibflow_operator.kube.leases import Lease

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    duration: float = 10.0
    deadline: float = 7.0
    retry: float = 2.0


class Choice(Enum):
    """What to do about the Lease."""

    TAKE = "take"
    WAIT = "wait"


def choose(lease: Lease | None, identity: str, unchanged: float, duration: float) -> Choice:
    """Whether to take a Lease that has been as it is for so many seconds."""
    if lease is None or lease.holder in ("", identity) or unchanged >= duration:
        return Choice.TAKE
    return Choice.WAIT


class LeasePort(Protocol):
    """Where the Lease is kept."""

    def read(self) -> Lease | None: ...

    def write(self, before: Lease | None, holder: str) -> Lease | None: ...


@dataclass(slots=True)
class Election:
    """One operator's part in it."""

    api: Api
    leases: LeasePort
    identity: str
    times: Times = field(default_factory=Times)
    clock: Callable[[], float] = time.monotonic
    _lease: Lease | None = None
    _seen: Lease | None = None
    _seen_at: float = 0.0
    _renewed_at: float = 0.0

    async def run(self, lead: Callable[[int], Awaitable[None]]) -> None:
        """Take part until cancelled: whenever the Lease is won, `lead(transitions)` runs until it returns or is lost."""
        while True:
            if (won := await self._try()) is not None:
                await self._lead(lead, won)
            await asyncio.sleep(self.times.retry)

    async def confirm(self) -> bool:
        """Whether the Lease is still ours, as the API server says now."""
        if (lease := self._lease) is None:
            return False
        sent = self.clock()
        try:
            self._lease = await self.api.run(self._renewed, lease)
        except ApiFailure as failure:
            log.warning("lease_not_confirmed", error=str(failure))
            return False
        if self._lease is not None:
            self._renewed_at = sent
        return self._lease is not None

    async def give_back(self) -> None:
        """Let another lead at once."""
        if (lease := self._lease) is not None:
            self._lease = None
            try:
                await self.api.run(self._returned, lease)
            except ApiFailure as failure:
                log.warning("lease_not_given_back", error=str(failure))

    async def _try(self) -> Lease | None:
        """The Lease if it is ours now."""
        sent = self.clock()
        try:
            lease = await self.api.run(self.leases.read)
            if lease != self._seen:
                self._seen, self._seen_at = lease, self.clock()
            if choose(lease, self.identity, self.clock() - self._seen_at, self.times.duration) is Choice.WAIT:
                return None
            self._lease = await self.api.run(self.leases.write, lease, self.identity)
        except ApiFailure as failure:
            log.warning("lease_not_read", error=str(failure))
            return None
        self._renewed_at = sent
        return self._lease

    async def _lead(self, lead: Callable[[int], Awaitable[None]], won: Lease) -> None:
        log.info("leading", identity=self.identity, transitions=won.transitions)
        tasks = {asyncio.ensure_future(lead(won.transitions)), asyncio.ensure_future(self._keep())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            log.info("leading_no_more", identity=self.identity)
        for task in done:
            task.result()

    async def _keep(self) -> None:
        """Renew; return when it is lost."""
        while self._lease is not None and self._left > 0:
            await asyncio.sleep(min(self.times.retry, self._left))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(self._left, 0)):
                    await self.confirm()
        self._lease = None

    @property
    def _left(self) -> float:
        """Seconds for which we lead if no renewal succeeds."""
        return self._renewed_at + self.times.deadline - self.clock()

    def _renewed(self, lease: Lease) -> Lease | None:
        """Replace what we wrote last; None if another has."""
        return self.leases.write(lease, self.identity) or self._still_ours()

    def _returned(self, lease: Lease) -> None:
        """Replace what we wrote last by one that nobody holds."""
        if self.leases.write(lease, "") is None and (found := self._still_ours()) is not None:
            self.leases.write(found, "")

    def _still_ours(self) -> Lease | None:
        """The Lease if we hold it: a renewal whose answer was lost, or nobody waited for, has changed its version."""
        found = self.leases.read()
        return found if found and found.holder == self.identity else None
