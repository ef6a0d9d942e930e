"""The heartbeat: a thread and connections of its own, so that no handler and no other call can starve it.

They give a call up after a sixth of the lease, and after a failure it beats again as soon, so that a renewal that is stuck
is repeated well inside the lease.

It renews the lease, and it sweeps: overdue attempts are settled, expired workers reaped, orphaned tasks taken back. It also
wakes when an attempt of its own worker is overdue, for then the event loop is blocked and cannot see to it.

`valid_until` is the worker's own deadline: the lease's length after the last good renewal was sent, by this machine's
clock that never steps. Past it the worker cannot know whether it still owns anything. A renewal that comes back empty
means that another took over: `lost` is called once and the thread ends. An error of the database is no loss; the next
beat tries again.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable

from fibflow.errors import DatabaseError, WorkerLost
from fibflow.logs import logger
from fibflow.model import SECOND
from fibflow.store import leases, polling, recovery
from fibflow.store.database import Database
from fibflow_worker.settings import Settings

log = logger(__name__)

GRACE = polling.GRACE / SECOND
SPREAD = (0.85, 0.95)
"""The parts of the interval after which a beat comes, by chance; the longest is promised to whoever counts missed ones."""


class Heartbeat(threading.Thread):
    """Beats every `heartbeat_interval` seconds until stopped or lost.

    `earliest` tells the earliest deadline of what runs here; `beaten` hears after every renewal whether the worker is
    paused, `lost` that it is none any more; both in this thread.
    """

    def __init__(
        self,
        database: Database,
        worker_id: int,
        settings: Settings,
        sent: float,
        earliest: Callable[[], float],
        beaten: Callable[[bool], None],
        lost: Callable[[], None],
    ) -> None:
        super().__init__(name=f"heartbeat-{worker_id}", daemon=True)
        self.database, self.worker_id, self.settings = database, worker_id, settings
        self.earliest, self.beaten, self.lost = earliest, beaten, lost
        self.stopped = threading.Event()
        self.valid_until = sent + settings.lease
        self.turned_at = time.monotonic()
        self._next_beat = time.monotonic() + longest_pause(settings)

    def run(self) -> None:
        while not self.stopped.wait(self._pause()):
            self.turned_at = time.monotonic()
            try:
                self._wake()
            except WorkerLost:
                self.lost()
                return
            except DatabaseError as error:
                log.warning("heartbeat_failed", worker_id=self.worker_id, error=str(error))
                self._next_beat = min(self._next_beat, time.monotonic() + self.settings.pulse)
            except Exception:  # a fault of ours must not end the lease, and all that runs with it
                log.exception("heartbeat_failed", worker_id=self.worker_id)

    def _pause(self) -> float:
        """Seconds until the next beat, or until an attempt here is overdue."""
        return max(min(self._next_beat, self.earliest() + GRACE + A_MOMENT) - time.monotonic(), A_MOMENT)

    def _wake(self) -> None:
        moment = time.monotonic()
        if moment >= self._next_beat:
            self._next_beat = moment + self.settings.heartbeat_interval * random.uniform(*SPREAD)
            self._renew(moment)
            self._sweep()
        elif self.earliest() < math.inf:
            self.database.call(recovery.time_out_overdue, self.worker_id)

    def _renew(self, moment: float) -> None:
        paused = self.database.call(leases.renew, self.worker_id)
        self.valid_until = moment + self.settings.lease
        self.beaten(paused)

    def _sweep(self) -> None:
        lost = self.database.call(polling.look_for_lost)
        if lost.overdue:
            self._told("task_timed_out", self.database.call(recovery.time_out_overdue, self.worker_id))
        if lost.expired:
            recover = self.settings.recover_running_tasks
            self._told("worker_reaped", len(self.database.call(leases.reap, self.worker_id, recover=recover)))
        if lost.orphaned and self.settings.recover_running_tasks:
            self.database.call(recovery.recover, self.worker_id)

    def _told(self, event: str, count: int) -> None:
        if count:
            log.info(event, worker_id=self.worker_id, count=count)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self.stopped.set()
        self.join()


def longest_pause(settings: Settings) -> float:
    """Seconds between two beats, at most, while all goes well."""
    return settings.heartbeat_interval * SPREAD[1]


def connections(database: Database, settings: Settings) -> Database:
    """Those of a heartbeat."""
    return database.apart(patience=settings.pulse, statement_timeout=settings.pulse, pool_size=1)


A_MOMENT = 0.1
"""Seconds between two looks for overdue attempts."""
