"""Syncing: rows are brought up to date with their resources, then statuses with the rows; what fails is put back with a wait.

`rows` and `reports` are two queues of keys; a key whose row is synced goes on into `reports`, and to the worker controller.
What is done about a key is in `reconcile`; what fills `rows`, and who calls this, is in `leading`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import product

from fibflow.errors import DatabaseError, LeadLost, one_line
from fibflow.logs import logger
from fibflow.metrics import counter
from fibflow_operator.kube.api import ApiFailure
from fibflow_operator.queue import Queue
from fibflow_operator.reasons import Reason
from fibflow_operator.reconcile import report, rows
from fibflow_operator.reconcile.report import Teller, Told
from fibflow_operator.reconcile.subject import Scene
from fibflow_operator.verdict import Standing
from fibflow_operator.world import Key, Kind

log = logger(__name__)
STAGES = ("rows", "reports")
RECONCILED = counter(
    "fibflow_operator_reconciled",
    "Keys that were worked on.",
    ["stage", "result"],
    known=product(STAGES, ("done", "failed")),
)


@dataclass(slots=True)
class Syncing:
    """One leader's. `synced` is told the keys whose rows are as they should be."""

    scene: Scene
    teller: Teller
    rows: Queue[Key]
    reports: Queue[Key]
    synced: Callable[[Collection[Key]], None]
    rows_fail: bool = False
    """Whether the last rows could not be brought up to date."""

    async def sync(self, keys: Collection[Key]) -> None:
        """Bring rows up to date."""
        try:
            following = await rows.reconcile(self.scene, keys)
        except Exception as error:
            self.rows_fail = True
            await self._not_synced(keys, error)
            return
        self.rows_fail = False
        RECONCILED.labels("rows", "done").inc(len(keys))
        for key in keys:
            self.rows.done(key)
        self.rows.add(following)
        self.synced(keys)
        self.reports.add(key for key in keys if not self._comes_again(key))

    def _comes_again(self, key: Key) -> bool:
        """Whether its row is looked at once more, and what is to be told is known only then: it changed meanwhile, or the type
        that it lacks is being stored."""
        if key in self.rows:
            return True
        refusal, resource = self.scene.standings.get(key, Standing()).refusal, self.scene.world.get(key)
        if resource is None or refusal is None or refusal.reason is not Reason.TASK_TYPE_NOT_FOUND:
            return False
        return Key(Kind.TASK_TYPE, key.namespace, str(resource.reference)) in self.rows

    async def _not_synced(self, keys: Collection[Key], error: Exception) -> None:
        known = isinstance(error, DatabaseError | LeadLost)
        (log.warning if known else log.exception)("rows_not_synced", keys=len(keys), error=one_line(error))
        RECONCILED.labels("rows", "failed").inc(len(keys))
        failure = f"not stored yet: {one_line(error)[:300]}; it is tried again"
        for key in keys:
            before, resource = self.scene.standings.get(key, Standing(stored=False)), self.scene.world.get(key)
            rule = await rows.rule_meanwhile(self.scene, key) or before.rule
            edition = resource.edition if resource else None
            self.scene.standings[key] = replace(before, failure=failure, edition=edition, rule=rule)
            self.rows.failed(key)
        self.reports.add(key for key in keys if not isinstance(error, LeadLost))

    async def tell(self, keys: Collection[Key]) -> None:
        """Bring statuses up to date."""
        try:
            found = await report.gather(self.scene, keys)
        except Exception as error:
            for key in keys:
                self._not_told(key, error)
            return
        await asyncio.gather(*(self._tell(key, found.get(key)) for key in keys))

    async def _tell(self, key: Key, said: Told | None) -> None:
        try:
            if said is not None:
                self.rows.add(await report.tell(self.scene, self.teller, key, said))
        except Exception as error:
            self._not_told(key, error)
        else:
            RECONCILED.labels("reports", "done").inc()
            self.reports.done(key)

    def _not_told(self, key: Key, error: Exception) -> None:
        known = isinstance(error, DatabaseError | ApiFailure)
        (log.warning if known else log.exception)("status_not_written", name=key.name, error=one_line(error))
        RECONCILED.labels("reports", "failed").inc()
        self.reports.failed(key, getattr(error, "retry_after", 0.0))
