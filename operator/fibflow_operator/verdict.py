"""Verdicts: how a resource stands, and what its status is to say of its row, and of what the database knows of it. Pure.

What is to be said of workers is decided in `worker_verdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fibflow.errors import shown
from fibflow.scaling import Rule
from fibflow.store.figures import TypeFigures
from fibflow.store.synced_crons import CronFigures
from fibflow_operator.conditions import Finding, written
from fibflow_operator.reasons import Reason, Refusal, Type
from fibflow_operator.world import Edition


@dataclass(frozen=True, slots=True)
class Standing:
    """How a sync ended: refused or not, and whether the database holds a row of the resource. `failure`: why it could not
    be tried; `edition`: of which spec that is said, and of no newer one; `rule`: how its workers are scaled, by the last
    spec that was accepted."""

    refusal: Refusal | None = None
    stored: bool = True
    failure: str | None = None
    edition: Edition | None = None
    rule: Rule | None = None

    def in_force(self, edition: Edition) -> bool:
        """Whether this very spec is stored."""
        return self.edition == edition and self.stored and self.refusal is None and self.failure is None


def ready(standing: Standing) -> Finding:
    """Whether the spec is in force."""
    if standing.refusal is not None:
        return Finding(Type.READY, False, standing.refusal.reason, standing.refusal.message)
    if standing.failure is not None:
        return Finding(Type.READY, False, Reason.DATABASE_UNAVAILABLE, standing.failure)
    return Finding(Type.READY, True, Reason.IN_FORCE, "the spec is in force")


def synced(standing: Standing) -> Finding:
    """Whether the database holds what the spec says."""
    if standing.failure is not None:
        return Finding(Type.SYNCED, False, Reason.DATABASE_UNAVAILABLE, standing.failure)
    if standing.refusal is None:
        return Finding(Type.SYNCED, True, Reason.STORED, "the database holds what the spec says")
    if standing.stored:
        return Finding(Type.SYNCED, False, Reason.LAST_GOOD, "the last good spec stays in force")
    return Finding(Type.SYNCED, False, Reason.NOTHING_STORED, "the database holds nothing of this resource")


def type_paused(suspended: bool, figures: TypeFigures, name: str) -> Finding:
    """Whether a type's tasks are held back."""
    if suspended:
        return Finding(Type.PAUSED, True, Reason.SUSPENDED, "spec.suspend is true")
    if figures.paused:
        return Finding(Type.PAUSED, True, Reason.PAUSED, f"paused at run time; `fibflow resume-type {shown(name)}` resumes it")
    return Finding(Type.PAUSED, False, Reason.NOT_PAUSED, "nothing holds it back")


def cron_paused(suspended: bool, figures: CronFigures | None, remembered: str | None, name: str) -> Finding:
    """Whether a cron task's instants are held back. A failure is told first: it must outlive the database.

    `remembered` is the failure that the status tells of; it counts as long as there is no row.
    """
    reason = figures.paused_reason if figures is not None else remembered
    way_out = f"`fibflow cron resume {name}` resumes it"
    if reason is not None:
        return Finding(Type.PAUSED, True, Reason.TICK_FAILED, f"{reason}; {way_out}")
    if figures is not None and figures.paused:
        return Finding(Type.PAUSED, True, Reason.PAUSED, f"paused at run time; {way_out}")
    if suspended:
        return Finding(Type.PAUSED, True, Reason.SUSPENDED, "spec.suspend is true")
    return Finding(Type.PAUSED, False, Reason.NOT_PAUSED, "nothing holds it back")


def scheduled(stored: bool, paused: Finding) -> Finding:
    """Whether a cron task's instants are decided as they come."""
    if not stored:
        return Finding(Type.SCHEDULED, False, Reason.NOT_IN_FORCE, "no spec of it is in force")
    if paused.status:
        return Finding(Type.SCHEDULED, False, Reason.HELD_BACK, paused.message)
    return Finding(Type.SCHEDULED, True, Reason.TICKING, "its instants are decided as they come")


def type_counts(figures: TypeFigures) -> dict[str, Any]:
    """The figures of a TaskType's status."""
    counts: dict[str, Any] = {"pending": figures.pending, "running": figures.running, "failed": figures.failed}
    return counts | _given("oldestPendingTime", figures.oldest_pending)


def cron_counts(figures: CronFigures, held_back: bool) -> dict[str, Any]:
    """The figures of a CronTask's status; one that is held back has no next ticks."""
    counts: dict[str, Any] = {"active": figures.active, "missed": figures.missed}
    if not held_back:
        counts["nextTickTimes"] = [moment(instant) for instant in figures.next_ticks]
    if figures.last_outcome is not None:
        counts["lastOutcome"] = figures.last_outcome
    return counts | _given("lastTickTime", figures.last_tick)


def _given(name: str, instant: int | None) -> dict[str, Any]:
    return {} if instant is None else {name: moment(instant)}


def moment(instant: int) -> str:
    """An instant as the API writes it, to the second."""
    return datetime.fromtimestamp(instant // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def remembered_pause(status: Mapping[str, Any]) -> str | None:
    """Why a cron task is paused after a failure, as its status remembers it."""
    for each in written(status):
        if (each.get("type"), each.get("status"), each.get("reason")) == (Type.PAUSED, "True", Reason.TICK_FAILED):
            return str(each.get("message", "")).partition(";")[0] or "a tick failed for good"
    return None
