"""What the programs count, in Prometheus' terms. Serving it is the programs' business."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

STALE_WRITES = Counter("fibflow_stale_writes", "Writes of attempts that their worker no longer owned, refused.", ["verb"])

LINGERING = Gauge("fibflow_lingering_handlers", "Handlers that run on although their attempt has ended; each keeps its slot.")
