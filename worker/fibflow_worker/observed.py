"""What Prometheus sees of a worker at the moment of a scrape: its slots, its lease, and whether it takes tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fibflow.metrics import family
from fibflow_worker.slots import Slots

SLOTS = family("gauge", "fibflow_slots", "Attempts that this worker may run at once.")
BUSY = family("gauge", "fibflow_slots_busy", "Slots that are taken: attempts that run, wait to be settled, or linger.")
LEASE_AGE = family("gauge", "fibflow_lease_age_seconds", "Since the last renewal of this worker's lease was sent.")
CLAIMING = family("gauge", "fibflow_claiming", "1 if this worker takes tasks; 0 while paused, draining or out of touch.")


class Observable(Protocol):
    """A worker, as far as it is looked at."""

    @property
    def claims(self) -> bool: ...

    @property
    def lease_age(self) -> float: ...


class Observed(Collector):
    """Looks at a worker."""

    def __init__(self, worker: Observable, slots: Slots) -> None:
        self._worker, self._slots = worker, slots

    def collect(self) -> Iterator[Metric]:
        slots, worker = self._slots, self._worker
        seen = {SLOTS: slots.size, BUSY: slots.busy, LEASE_AGE: worker.lease_age, CLAIMING: worker.claims}
        for described, value in seen.items():
            yield GaugeMetricFamily(described.name, described.help, value=float(value))
