"""What the programs count, in Prometheus' terms: the table of all metrics, and those that the library itself counts.

Whoever makes a metric makes it here or by `counter`, `gauge`, `histogram` and `family`, which put it into the table that
docs/reference/metrics.md is made of. No label has values without bound: a task type is one only where series are few
(fibflow_worker/tallies.py). Serving it is the programs' business (probes.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

OTHER = "_other"
"""The label under which all are summed that have no series of their own."""
OWN_SERIES = 200
"""So many values of one label have series of their own: the busiest."""


class Described(NamedTuple):
    """A metric as its page describes it, by the name under which it is served."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


TABLE: list[Described] = []


def family(kind: str, name: str, help: str, labels: Sequence[str] = ()) -> Described:
    """Describe a metric that a collector makes anew for each scrape."""
    described = Described(f"{name}_total" if kind == "counter" else name, kind, tuple(labels), help)
    TABLE.append(described)
    return described


def counter(name: str, help: str, labels: Sequence[str] = (), known: Iterable[Sequence[str]] = ()) -> Counter:
    """A counter; `known` label values are served from the start, so that a first event is seen as an increase."""
    family("counter", name, help, labels)
    made = Counter(name, help, labels)
    for values in known:
        made.labels(*values)
    return made


def gauge(name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
    """A gauge."""
    family("gauge", name, help, labels)
    return Gauge(name, help, labels)


def histogram(name: str, help: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
    """A histogram."""
    family("histogram", name, help, labels)
    return Histogram(name, help, labels, buckets=buckets)


STALE_VERBS = ("complete", "fail", "time_out", "interrupt", "suspend", "cancel", "spawn", "progress", "checkpoint")

STALE_WRITES = counter(
    "fibflow_stale_writes",
    "Writes of attempts that their worker no longer owned, refused.",
    ["verb"],
    known=[[verb] for verb in STALE_VERBS],
)

LINGERING = gauge("fibflow_lingering_handlers", "Handlers that run on although their attempt has ended; each keeps its slot.")

RECOVERIES = counter(
    "fibflow_recoveries",
    "Running tasks that were taken back from a worker, by how that worker had ended.",
    ["cause"],
    known=[["reaped"], ["superseded"]],
)

LOST_WORKERS = counter(
    "fibflow_lost_workers",
    "Workers that others ended: reaped when their lease ran out, superseded when their pod had a new process.",
    ["cause"],
    known=[["reaped"], ["superseded"]],
)

OVERDUE = counter("fibflow_overdue_attempts", "Attempts past their deadline that were settled for a worker that did not.")

CRON_TICKS = counter(
    "fibflow_cron_ticks",
    "Instants of cron tasks that were decided: run, or skipped for a reason.",
    ["decision"],
    known=[["run"], ["missed"]],
)

CRON_LAG = histogram(
    "fibflow_cron_lag_seconds",
    "From an instant of a cron task to the decision to run it.",
    (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)

PRUNED = counter("fibflow_pruned_tasks", "Tasks that retention deleted.")

DATABASE_ERRORS = counter(
    "fibflow_database_errors",
    "Calls of the database that failed: contention is repeated, of what is unknown nobody can say whether it happened.",
    ["kind"],
    known=[["contention"], ["unavailable"], ["unknown"], ["schema"], ["refused"]],
)
