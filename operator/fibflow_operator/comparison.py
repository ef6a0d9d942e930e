"""Comparisons that find what no event told: whole lists of the API server, and what the database holds.

    listed    every resource is listed anew: what was missed, above all deletions, comes to light
    looked    rows that lack a resource, resources that lack a row (the database was wiped), refusals that something other than
              a resource may mend, figures that changed; all, where what was committed may be gone

They only name keys to be looked at. A list that is refused or cut names none: an empty answer is not an empty world.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fibflow.logs import logger
from fibflow.store.database import Database
from fibflow.store.figures import Counts, TypeFigures, counts, of_resources, queues, rest
from fibflow.store.installation import Footing, Lead
from fibflow.store.pools import PoolFigures, pool_figures
from fibflow.store.synced import Name, stored_pools, tasks_to_cancel
from fibflow.store.synced_crons import CronState, cron_states
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.kube.resources import Listed
from fibflow_operator.names import of_pool
from fibflow_operator.observed import OBSERVED
from fibflow_operator.reasons import Reason
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.world import Key, Kind, Resource

log = logger(__name__)
SHARE, SELDOM = 50, 60.0
"""Times as long as it took to count all tasks nobody counts again: it costs a fiftieth of the time; but seconds, at most."""
MENDED_ELSEWHERE = (Reason.TASK_TYPE_NOT_FOUND, Reason.REFUSED)
"""Why a spec is refused that may come into force though no resource changes: code declares the type, the database takes it."""
DOUBTED = 3
"""Lists that found changes of which the watch told nothing, until it is taken for dead."""


class Lists(Protocol):
    """Where resources are listed."""

    async def list_all(self, kind: Kind, namespace: str | None, some: Callable[[Sequence[Resource]], None]) -> Listed: ...


async def listed(
    scene: Scene, lists: Lists, kind: Kind, namespace: str | None, look_at: Callable[[set[Key]], None]
) -> set[Key] | None:
    """List all of a kind, of one namespace or of all; the keys that it touched, None if the list is not complete.

    Cron tasks are looked at page by page: while a long list goes on, the rows of its first page are stored. Of the others it
    is known at the end only who claims a name first.
    """
    touched: set[Key] = set()

    def see(keys: set[Key]) -> None:
        touched.update(keys)
        look_at(keys)

    def some(resources: Sequence[Resource]) -> None:
        if kind is Kind.CRON_TASK:
            see(set().union(*map(scene.world.see, resources)))

    try:
        found = await lists.list_all(kind, namespace, some)
    except ApiFailure as failure:
        log.warning("list_failed", kind=str(kind), namespace=namespace, error=str(failure))
        return None
    see(scene.world.see_all(kind, namespace, found.version, found.resources))
    return touched


@dataclass(slots=True)
class Hearing:
    """Whether the watch still tells: events since the last lists, and lists in a row that found changes while none came."""

    heard: int = 0
    unheard: int = 0

    def is_dead(self, changes: bool) -> bool:
        """Whether, after lists that found changes or not, the watch is to be believed to tell of nothing any more."""
        self.unheard = 0 if self.heard else self.unheard + changes
        self.heard = 0
        dead = self.unheard >= DOUBTED
        self.unheard = 0 if dead else self.unheard
        return dead


@dataclass(slots=True)
class Looked:
    """What a look at the database found: keys whose rows are to be looked at, keys whose figures changed. `anew`: what was
    committed before may be gone."""

    rows: set[Key] = field(default_factory=set)
    reports: set[Key] = field(default_factory=set)
    to_cancel: bool = False
    anew: bool = False


@dataclass(slots=True)
class Glance:
    """The database as it was seen last."""

    crons: Mapping[Name, CronState] = field(default_factory=dict)
    types: Mapping[Name, TypeFigures] = field(default_factory=dict)
    pools: Mapping[Name, PoolFigures] = field(default_factory=dict)
    counted: Counts = field(default_factory=Counts)
    count_again_at: float = -math.inf
    counted_under: Lead | None = None
    footing: Footing | None = None
    clock: Callable[[], float] = time.monotonic

    async def look(self, scene: Scene) -> Looked:
        """Compare it with the world, and with what it was. Raises DatabaseError."""
        database: Database = scene.database
        footing = await scene.writer.footing()
        crons = await database.run(cron_states)
        seen = await database.run(queues, await self._counts(scene))
        types = of_resources(seen)
        pools = await database.run(stored_pools)
        occupied = await database.run(pool_figures)
        found = Looked(to_cancel=await database.run(tasks_to_cancel), anew=self.footing not in (None, footing))
        for kind, names in ((Kind.CRON_TASK, crons), (Kind.TASK_TYPE, types), (Kind.WORKER_POOL, pools)):
            found.rows |= _differing(scene, kind, names)
        found.rows |= _refused_till_now(scene)
        found.reports |= {_key(Kind.CRON_TASK, name) for name in _changed(self.crons, crons)}
        found.reports |= {_key(Kind.TASK_TYPE, name) for name in _changed(self.types, types)}
        found.reports |= {of_pool(*name) for name in _changed(self.pools, occupied)}
        found.reports |= {of_pool(*name) for name in self.pools.keys() - occupied.keys()}
        if found.anew:
            log.warning("rows_compared_anew", before=str(self.footing), now=str(footing))
            found.rows |= {key for kind in Kind for key in scene.world.keys(kind)}
        self.footing, self.crons, self.types, self.pools = footing, crons, types, occupied
        scene.type_figures, scene.pool_figures = types, occupied
        OBSERVED.see(seen, await database.run(rest))
        return found

    async def _counts(self, scene: Scene) -> Counts:
        """As of now, or of lately where there is much to count; never of a database that was wiped since."""
        begin, lead = self.clock(), scene.writer.lead
        if begin >= self.count_again_at or lead is not self.counted_under:
            self.counted, self.counted_under = await scene.database.run(counts), lead
            end = self.clock()
            self.count_again_at = end + min(SHARE * (end - begin), SELDOM)
        return self.counted


def _differing(scene: Scene, kind: Kind, names: Mapping[Name, object]) -> set[Key]:
    """Rows without a resource; resources without a row, be it that none may be stored, which is tried again."""
    stored = {_key(kind, name) for name in names}
    lost = {key for key in scene.world.keys(kind) if key not in stored}
    return lost | {key for key in stored if scene.world.is_gone(key)}


def _refused_till_now(scene: Scene) -> set[Key]:
    """Those that have a row, too: the last good one."""
    refusals = ((key, standing.refusal) for key, standing in scene.standings.items())
    return {key for key, refusal in refusals if refusal is not None and refusal.reason in MENDED_ELSEWHERE}


def _changed(before: Mapping[Name, object], now: Mapping[Name, object]) -> set[Name]:
    return {name for name, state in now.items() if before.get(name) != state}


def _key(kind: Kind, name: Name) -> Key:
    return Key(kind, *name)
