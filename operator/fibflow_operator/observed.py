"""What Prometheus sees of the whole installation: queues, cron tasks, workers, the database's health.

The leader looks at the database, and a scrape tells what it saw last, so that no scrape asks the database anything. Who
does not lead tells nothing of it: there would be two truths. The busiest types have series of their own, the rest are
summed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import REGISTRY, Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fibflow.metrics import OTHER, OWN_SERIES, Described, family, gauge
from fibflow.model import SECOND
from fibflow.store.figures import Queue, Rest
from fibflow.store.health import DatabaseHealth

LEADER = gauge("fibflow_operator_leader", "1 while this operator leads.")

TASKS = family(
    "gauge",
    "fibflow_tasks",
    "Tasks that are pending or running, and those kept that have permanently failed; as the leader saw them last.",
    ["task_namespace", "type", "status"],
)
OLDEST = family(
    "gauge",
    "fibflow_oldest_pending_seconds",
    "Since when the oldest task that waits to run has been due; 0 if none is, or the type is paused or suspended.",
    ["task_namespace", "type"],
)
OVERDUE = family(
    "gauge",
    "fibflow_cron_overdue_seconds",
    "Since when an instant of a cron task has passed undecided; no series for one that is on time.",
    ["task_namespace", "cron"],
)
PAUSED = family("gauge", "fibflow_cron_paused", "Cron tasks that are paused by a failure.", ["task_namespace"])
WORKERS = family("gauge", "fibflow_workers", "Active workers.", ["task_namespace"])
WORKER_SLOTS = family("gauge", "fibflow_workers_slots", "Slots of all active workers.", ["task_namespace"])
WANTED = family("gauge", "fibflow_operator_wanted_workers", "Workers that a pool should have.", ["task_namespace", "pool"])
READY = family("gauge", "fibflow_operator_ready_workers", "A pool's pods that are ready.", ["task_namespace", "pool"])
TRANSACTION = family("gauge", "fibflow_database_oldest_transaction_seconds", "Age of the database's oldest transaction.")
LIVE = family("gauge", "fibflow_database_live_rows", "Rows of a table, as the statistics know them.", ["table"])
DEAD = family("gauge", "fibflow_database_dead_rows", "Rows of a table that wait to be cleared away.", ["table"])
BYTES = family("gauge", "fibflow_database_bytes", "Size of a table with its indexes.", ["table"])
CONNECTIONS = family("gauge", "fibflow_database_connections", "Connections to the server, of all databases.")
MOST = family("gauge", "fibflow_database_max_connections", "Connections that the server allows.")
BY_INDEX = family("gauge", "fibflow_database_claim_indexed", "1 if the plan of a claim comes in by an index, or needs none.")

Samples = Iterator[tuple[Sequence[str], float]]


class PoolSize(NamedTuple):
    """A pool: how many workers it should have, and how many of its pods are ready."""

    namespace: str
    pool: str
    wanted: int
    ready: int


class Observed(Collector):
    """What the leader saw last; None of what it has not seen yet."""

    def __init__(self) -> None:
        self.queues: Sequence[Queue] | None = None
        self.rest: Rest | None = None
        self.health: DatabaseHealth | None = None
        self.pools: Sequence[PoolSize] | None = None
        self.seen_at = 0.0

    def see(self, queues: Sequence[Queue], rest: Rest) -> None:
        """A look at the database, just now."""
        self.queues, self.rest, self.seen_at = queues, rest, time.monotonic()

    def forget(self) -> None:
        """The lead is over, or the database away: what was seen is true no more."""
        self.queues = self.rest = self.health = self.pools = None

    def collect(self) -> Iterator[Metric]:
        queues, rest, health, pools = self.queues, self.rest, self.health, self.pools
        if queues is not None and rest is not None:
            now = rest.now + round((time.monotonic() - self.seen_at) * SECOND)
            own = busiest(queues)
            yield from _of_queues(own, now)
            yield from _of_rest(rest, now, {namespace for namespace, _ in own})
        if health is not None:
            yield from _of_health(health)
        if pools is not None:
            yield from _of_pools(pools)


def busiest(queues: Sequence[Queue]) -> dict[tuple[str, str], Sequence[Queue]]:
    """The queues by namespace and type, those with the least to do together."""
    ordered = sorted(queues, key=lambda queue: queue.figures.pending + queue.figures.running, reverse=True)
    own = {(queue.namespace, queue.type): [queue] for queue in ordered[:OWN_SERIES]}
    return {**own, (OTHER, OTHER): ordered[OWN_SERIES:]} if len(ordered) > OWN_SERIES else dict(own)


def _of_queues(queues: Mapping[tuple[str, str], Sequence[Queue]], now: int) -> Iterator[Metric]:
    def counted(of: Callable[[Queue], int], status: str) -> Samples:
        return (((*place, status), sum(map(of, members))) for place, members in queues.items())

    tasks = _family(TASKS, counted(lambda queue: queue.figures.pending, "pending"))
    for labels, value in counted(lambda queue: queue.figures.running, "running"):
        tasks.add_metric(labels, value)
    for labels, value in counted(lambda queue: queue.figures.failed, "permanently_failed"):
        tasks.add_metric(labels, value)
    yield tasks
    yield _family(OLDEST, ((place, max(_age(queue, now) for queue in members)) for place, members in queues.items()))


def _age(queue: Queue, now: int) -> float:
    oldest = queue.figures.oldest_pending
    return 0.0 if oldest is None or queue.held_back else max(now - oldest, 0) / SECOND


def _of_rest(rest: Rest, now: int, busy: Container[str]) -> Iterator[Metric]:
    latest = sorted(rest.overdue.items(), key=lambda item: item[1])
    ages = [(place, max(now - at, 0) / SECOND) for place, at in latest[:OWN_SERIES]]
    if left := latest[OWN_SERIES:]:
        ages.append(((OTHER, OTHER), max(now - left[0][1], 0) / SECOND))
    yield _family(OVERDUE, iter(ages))
    yield _family(PAUSED, _by_namespace(rest.paused, busy))
    yield _family(WORKERS, _by_namespace({namespace: count for namespace, (count, _) in rest.workers.items()}, busy))
    yield _family(WORKER_SLOTS, _by_namespace({namespace: slots for namespace, (_, slots) in rest.workers.items()}, busy))


def _by_namespace(found: Mapping[str, int], busy: Container[str]) -> Samples:
    """Those of types with series of their own, who are asked for beside them, have one; then others, while there is room."""
    ordered = sorted(found, key=lambda namespace: namespace not in busy)
    yield from (((namespace,), found[namespace]) for namespace in ordered[:OWN_SERIES])
    if left := ordered[OWN_SERIES:]:
        yield (OTHER,), sum(found[namespace] for namespace in left)


def _of_health(health: DatabaseHealth) -> Iterator[Metric]:
    yield _family(LIVE, (((name,), table.live) for name, table in health.tables.items()))
    yield _family(DEAD, (((name,), table.dead) for name, table in health.tables.items()))
    yield _family(BYTES, (((name,), table.bytes) for name, table in health.tables.items()))
    single = {
        TRANSACTION: health.oldest_transaction,
        CONNECTIONS: health.connections,
        MOST: health.most_connections,
        BY_INDEX: health.claim_by_index,
    }
    for described, value in single.items():
        yield _family(described, iter([((), float(value))]))


def _of_pools(pools: Sequence[PoolSize]) -> Iterator[Metric]:
    """Those that lack the most have series of their own, the rest are summed."""
    ordered = sorted(pools, key=lambda size: (size.ready - size.wanted, -size.wanted))
    told = ordered[:OWN_SERIES]
    if left := ordered[OWN_SERIES:]:
        told.append(PoolSize(OTHER, OTHER, sum(size.wanted for size in left), sum(size.ready for size in left)))
    yield _family(WANTED, (((size.namespace, size.pool), size.wanted) for size in told))
    yield _family(READY, (((size.namespace, size.pool), size.ready) for size in told))


def _family(described: Described, samples: Samples) -> GaugeMetricFamily:
    made = GaugeMetricFamily(described.name, described.help, labels=described.labels)
    for labels, value in samples:
        made.add_metric(labels, value)
    return made


OBSERVED = Observed()
REGISTRY.register(OBSERVED)
