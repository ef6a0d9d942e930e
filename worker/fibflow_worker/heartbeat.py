"""The heartbeat: a thread and a connection of its own, so that no handler can starve it.

It renews the lease, and it sweeps: overdue attempts are settled, expired workers reaped, orphaned tasks taken back. A
renewal that comes back empty means that another took over: `lost` is called once and the thread ends. An error of the
database is no loss; the next beat tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from fibflow.errors import DatabaseError, WorkerLost
from fibflow.store import leases
from fibflow.store.database import Database

log = structlog.get_logger(__name__)


class Heartbeat(threading.Thread):
    """Beats every `interval` seconds until stopped."""

    def __init__(self, database: Database, worker_id: int, interval: float, lost: Callable[[], None]) -> None:
        super().__init__(name=f"heartbeat-{worker_id}", daemon=True)
        self.database, self.worker_id, self.interval, self.lost = database, worker_id, interval, lost
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(self.interval):
            try:
                self._beat()
            except WorkerLost:
                self.lost()
                return
            except DatabaseError as error:
                log.warning("heartbeat_failed", worker_id=self.worker_id, error=str(error))

    def _beat(self) -> None:
        self.database.call(leases.renew, self.worker_id)
        self.database.call(leases.time_out_overdue, self.worker_id)
        self.database.call(leases.reap, self.worker_id)
        self.database.call(leases.recover, self.worker_id)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self.stopped.set()
        self.join()
