"""Registration: how a worker gains the right to hold tasks, keeps it, loses it, and gains it anew.

A worker registers, and the heartbeat of that registration renews its lease (heartbeat.py, in a thread; its news are taken up
here, in the event loop). A worker that was reaped or superseded drops what it runs, writes nothing more under its old id, and
registers anew as soon as no other worker of its pod is active. One that could not renew in time writes and claims nothing
until it has renewed, and tells its handlers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from fibflow.errors import DatabaseError, WorkerLost
from fibflow.logs import logger
from fibflow.store import leases
from fibflow.store.database import Database
from fibflow_worker import heartbeat
from fibflow_worker.attempts import Attempts
from fibflow_worker.heartbeat import Heartbeat
from fibflow_worker.settings import Settings
from fibflow_worker.turns import Turns

log = logger(__name__)


class Registration:
    """The registration under which a worker works now. `paused`: somebody paused it from elsewhere. `lost`: others have
    taken over, and it has not come back yet."""

    def __init__(
        self, database: Database, settings: Settings, attempts: Attempts, turns: Turns, handlers: Callable[[], Iterable[str]]
    ) -> None:
        self.database, self.settings, self.attempts, self.turns = database, settings, attempts, turns
        self.handlers = handlers
        self.beating = heartbeat.connections(database, settings)
        self.worker_id = 0
        self.paused = False
        self.heartbeat: Heartbeat | None = None
        self.lost = False
        self._began = time.time_ns() // 1000
        self._came_lost = asyncio.Event()
        self._out_of_touch: asyncio.TimerHandle | None = None

    @property
    def writes(self) -> bool:
        """Whether the worker may still believe that it owns what it runs: not lost, and renewed in time."""
        beats = self.heartbeat
        return not self.lost and (beats is None or not self.settings.own_deadline or time.monotonic() < beats.valid_until)

    @property
    def age(self) -> float:
        """Seconds since the last good renewal, or the registration, was sent; 0 before that."""
        beats = self.heartbeat
        return 0.0 if beats is None else max(time.monotonic() - beats.valid_until + self.settings.lease, 0.0)

    def holds(self, worker_id: int) -> bool:
        """Whether the worker still works under this id."""
        return worker_id == self.worker_id and not self.lost

    async def register(self, *, supersede: bool = True) -> None:
        """Become a worker under a new id. Raises WorkerLost while another of its pod is active and not to be superseded."""
        sent = time.monotonic()
        self.worker_id = await self.database.run(
            leases.register,
            pod_id=self.settings.pod_id,
            host=os.environ.get("FIBFLOW_NODE") or socket.gethostname(),
            pid=os.getpid(),
            slots=self.settings.slots,
            lease=self.settings.lease,
            recover=self.settings.recover_running_tasks,
            supersede=supersede,
            origin=self._origin(),
        )
        self.lost = False
        self.attempts.write_as(self.worker_id)
        self._beat(sent)
        log.info("worker_registered", worker_id=self.worker_id, pod_id=self.settings.pod_id)

    def _origin(self) -> leases.Origin:
        settings = self.settings
        beats = heartbeat.longest_pause(settings)
        return leases.Origin(settings.pod_uid, settings.pool, self._began, beats, tuple(self.handlers()))

    def _beat(self, sent: float) -> None:
        """Start the heartbeat of this registration, which was sent at `sent` (monotonic)."""
        loop = asyncio.get_running_loop()
        self.heartbeat = Heartbeat(
            self.beating,
            self.worker_id,
            self.settings,
            sent,
            earliest=lambda: self.attempts.deadlines.earliest,
            beaten=lambda paused: _soon(loop, self.beaten, paused),
            lost=lambda: _soon(loop, self._lose),
        )
        self.watch()
        self.heartbeat.start()

    def beaten(self, paused: bool) -> None:
        """The lease was renewed."""
        self.paused = paused
        self.attempts.tell_handlers(None, unless="drain")
        self.watch()
        self.turns.knock()

    def watch(self) -> None:
        """Tell the handlers when the lease could not be renewed in time."""
        if self._out_of_touch is not None:
            self._out_of_touch.cancel()
        if self.settings.own_deadline and self.heartbeat is not None:
            late = max(self.heartbeat.valid_until - time.monotonic(), 0)
            self._out_of_touch = asyncio.get_running_loop().call_later(late, self.attempts.tell_handlers, "out_of_touch")

    def _lose(self) -> None:
        """Another took over."""
        log.info("worker_lost", worker_id=self.worker_id)
        self.lost = True
        self.attempts.lose()
        self._came_lost.set()

    async def come_back(self) -> None:
        """After every loss, register anew as soon as no other worker of this pod is active."""
        while True:
            await self._came_lost.wait()
            self._came_lost.clear()
            while self.lost:
                try:
                    await self.register(supersede=False)
                except (WorkerLost, DatabaseError):
                    await asyncio.sleep(self.settings.poll_interval)
            self.turns.work_announced()

    async def give_up(self) -> None:
        """Stop beating, and give the lease up."""
        if self._out_of_touch is not None:
            self._out_of_touch.cancel()
        if self.heartbeat is not None:
            await self.database.in_a_thread(self.heartbeat.stop)
        try:
            await self.database.run(leases.stop, self.worker_id)
        except DatabaseError as error:
            log.warning("drain_failed", worker_id=self.worker_id, error=str(error))


def _soon(loop: asyncio.AbstractEventLoop, call: Any, *arguments: object) -> None:
    """Call in the event loop, from another thread; a loop that has closed hears nothing."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        return
