"""The program around a worker: what a process that does nothing else sets up before it works, and the signals it obeys."""

from __future__ import annotations

import asyncio
import gc
import signal

from prometheus_client import REGISTRY, disable_created_metrics

from fibflow_worker.runtime import Worker


async def serve(worker: Worker) -> None:
    """Run a worker until SIGTERM or SIGINT, which drain it; a second one hurries it. Raises what `Worker.run` raises."""
    _spare_the_collector()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()
    await worker.database.aclose()


def show(worker: Worker) -> None:
    """Have this worker's own metrics served with those of the process; one worker a process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each counter's birth, which nobody asks for
    REGISTRY.register(worker.tallies)
    REGISTRY.register(worker.observed)


def _spare_the_collector() -> None:
    """Look for cyclic garbage less often, and not among what was imported: it was half of an attempt's cost."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
