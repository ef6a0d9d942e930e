"""What `rows` and `report` ask of a kind of resource, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from fibflow.scaling import Rule
from fibflow.store.database import Database
from fibflow.store.figures import TypeFigures
from fibflow.store.pools import PoolFigures
from fibflow.store.synced import Name
from fibflow_operator.conditions import Finding
from fibflow_operator.fleet import Fleet, fleet_of
from fibflow_operator.reasons import Refusal
from fibflow_operator.verdict import Standing
from fibflow_operator.workload_cache import WorkloadCache
from fibflow_operator.world import Key, Resource, World
from fibflow_operator.writing import Writer

R = TypeVar("R")


@dataclass(slots=True)
class Scene:
    """What a leader works on, and what it found so far."""

    world: World
    writer: Writer
    standings: dict[Key, Standing] = field(default_factory=dict)
    type_figures: Mapping[Name, TypeFigures] = field(default_factory=dict)
    pool_figures: Mapping[Name, PoolFigures] = field(default_factory=dict)
    cache: WorkloadCache = field(default_factory=WorkloadCache)
    refused: dict[Key, Refusal] = field(default_factory=dict)
    """Why the Deployment of a resource is not as it asks."""
    scaled: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """The last decision about a fleet that is scaled, as its status tells it."""
    applied: dict[Key, tuple[str, int]] = field(default_factory=dict)
    """What was applied last, and the Deployment's generation after it."""
    covered: dict[Key, tuple[str, int]] = field(default_factory=dict)
    """The same of its disruption budget."""

    @property
    def database(self) -> Database:
        return self.writer.database

    def fleet(self, resource: Resource) -> Fleet:
        """The workers of a resource, scaled as the last spec says that was accepted."""
        standing = self.standings.get(resource.key)
        return fleet_of(resource, (standing and standing.rule) or Rule())


Decide = Callable[[Resource], "R | Refusal"]


class Subject(Protocol[R]):
    """One kind of resource: its rows, and what its status tells."""

    forget: Callable[..., None]

    async def stored(self, scene: Scene, names: Collection[Name]) -> Mapping[Name, R]:
        """The rows that there are."""

    async def gather(self, scene: Scene, resources: Sequence[Resource]) -> Decide[R]:
        """What is around these resources, as a function that decides their rows."""

    async def sync(self, scene: Scene, rows: Sequence[tuple[Resource, R]]) -> None:
        """Store these rows."""

    def heirs(self, scene: Scene, row: R) -> Collection[Key]:
        """The resources that a row passes to when its own is gone, if they are not refused."""

    async def reports(self, scene: Scene, resources: Sequence[tuple[Resource, Standing]]) -> dict[Key, Report]:
        """What statuses are to tell. Raises DatabaseError."""


@dataclass(frozen=True, slots=True)
class Report:
    """Findings for the conditions, and the status' other fields; not `complete` if there is more that was not looked at."""

    findings: tuple[Finding, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True
