"""How a worker goes, for the kubelet: `/readyz` and `/livez`. It never asks the database, which may be away.

    live    the event loop turns, in which tasks are claimed, and the thread turns that renews the lease
    ready   live, and registered since its start; also when it is full, paused, draining, or has lost its database

A ReplicaSet takes pods first that are not ready, whatever they run: so a worker that is busy must stay ready.
"""

from __future__ import annotations

import time
from http.server import ThreadingHTTPServer

from fibflow import probes
from fibflow_worker.runtime import Worker

LOOP_TURNS = 30.0
"""Seconds within which the event loop must have turned: a handler may hold it for a while, and should not."""
THREAD_TURNS = 60.0
"""Seconds within which the heartbeat must have turned, besides its interval: a database that does not answer holds it."""


def serve(worker: Worker, port: int) -> ThreadingHTTPServer:
    """Answer on a port; the server. Raises OSError."""
    return probes.serve(port, {"/livez": lambda: live(worker), "/readyz": lambda: ready(worker)})


def live(worker: Worker) -> list[str]:
    """Why this process should be restarted."""
    silent = time.monotonic() - worker.turned_at
    found = [f"the event loop has not turned for {silent:.0f} s"] if silent > LOOP_TURNS else []
    beats = worker.heart
    if beats is None or worker.lost:
        return found
    silent = time.monotonic() - beats.turned_at
    if silent > THREAD_TURNS + worker.settings.heartbeat_interval or not beats.is_alive():
        found.append(f"the heartbeat has not turned for {silent:.0f} s")
    return found


def ready(worker: Worker) -> list[str]:
    """Why no work is to be expected of it."""
    return live(worker) + ([] if worker.worker_id else ["it has not registered yet"])
