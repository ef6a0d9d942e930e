"""How a worker works: every setting with its default and its bounds. Durations in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from fibflow import encoding
from fibflow.errors import InvalidInput
from fibflow.store import retention
from fibflow.store.retention import PRUNABLE

LONG = float(encoding.LONGEST_DURATION)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a worker works. Raises InvalidInput, which names the setting."""

    slots: int = 10
    """Attempts that run at once."""
    pod_id: str | None = None
    """The name that a restart keeps; registering supersedes every other worker of the same pod."""
    pod_uid: str | None = None
    """The pod's uid: once the pod is gone, nobody registers under it any more."""
    pool: str | None = None
    """The WorkerPool that it belongs to: it claims the types bound to that, or those bound to none."""
    unbound: bool = False
    """True: it claims those bound to none beside those of its pool."""
    type: str | None = None
    """The one task type that it runs; None for all that its application has handlers for."""
    poll_interval: float = 1.0
    """Between two looks at the database while nobody tells of work; jittered by a tenth."""
    heartbeat_interval: float = 5.0
    """Between two renewals of the lease, at most: they come 5 to 15 % earlier, by chance."""
    lease: float = 30.0
    """How long a worker that is silent keeps its tasks."""
    drain: float = 30.0
    """How long what runs may go on after the worker was told to stop."""
    recover_running_tasks: bool = True
    """False: what lost workers ran stays running until its deadline."""
    retention_age: float | Literal["usual"] | None = "usual"
    """Workflows that ended so long ago are deleted: usually a day, in memory an hour; None keeps them for ever."""
    retention_statuses: tuple[str, ...] = tuple(PRUNABLE)
    """The statuses of the roots of workflows that are deleted."""
    retention_interval: float = 300.0
    """Between two sweeps for what is to be deleted."""
    own_deadline: bool = True
    """True: a worker that could not renew its lease in time stops writing by itself. False: it goes on, and the fence alone
    refuses what it writes once another has taken over."""

    @property
    def patience(self) -> float:
        """How long the worker's sessions wait for others' locks, and hold their own in silence: below half of the lease."""
        return self.lease / 3

    @property
    def pulse(self) -> float:
        """How long one renewal may take: several are tried before the lease runs out."""
        return self.lease / 6

    def __post_init__(self) -> None:
        for name in ("pod_id", "pod_uid", "pool", "type"):
            encoding.optional_text(getattr(self, name), name, longest=253)
        for name, (lowest, highest, whole) in BOUNDS.items():
            value = getattr(self, name)
            if name != "retention_age" or value not in (None, "usual"):
                encoding.number(value, name, lowest, highest, whole=whole)
        for name in ("unbound", "recover_running_tasks", "own_deadline"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(name, getattr(self, name), "is not true or false")
        if self.heartbeat_interval * 2 > self.lease:
            raise InvalidInput(
                "lease", self.lease, f"is less than two heartbeats of {self.heartbeat_interval:g} s; make it longer"
            )
        retention.check_statuses(self.retention_statuses, "retention_statuses")


BOUNDS: Mapping[str, tuple[float, float, bool]] = {
    "slots": (1, 100_000, True),
    "poll_interval": (0.01, 3600, False),
    "heartbeat_interval": (0.05, 3600, False),
    "lease": (0.1, 3600, False),
    "drain": (0, LONG, False),
    "retention_age": (0.001, LONG, False),
    "retention_interval": (1, LONG, False),
}


def settings(given: Mapping[str, Any]) -> Settings:
    """Settings from names and values. Raises InvalidInput, also for a name that does not exist."""
    known = [field.name for field in fields(Settings)]
    if unknown := sorted(set(given) - set(known)):
        raise InvalidInput("settings", unknown[0], f"is no setting; known: {', '.join(known)}")
    return Settings(**given)
