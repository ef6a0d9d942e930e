"""A fleet: the workers of a WorkerPool, or a TaskType's own, how they are called, and how they are scaled. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fibflow.scaling import Policy, Rule
from fibflow.store.synced import Name
from fibflow_operator import names
from fibflow_operator.world import Key, Kind, Resource


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers that a resource asks for, in a WorkerPool's words. `type`: the only one that they run, if it is one.

    `rule` is that of the last spec that was accepted, which `spec` may not be.
    """

    key: Key
    uid: str
    spec: Mapping[str, Any]
    rule: Rule
    type: str | None = None

    @property
    def pool(self) -> str:
        return names.pool_of(self.key)

    @property
    def place(self) -> Name:
        """Where what is known of its pool is found."""
        return Name(self.key.namespace, self.pool)

    @property
    def deployment(self) -> Name:
        return names.deployment_of(self.key)

    @property
    def path(self) -> str:
        """Where its resource says what it is to be."""
        return "spec" if self.type is None else "spec.worker"

    @property
    def slots(self) -> int:
        return self.rule.slots

    @property
    def replicas(self) -> int | None:
        """How many its spec asks for; None where the backlog decides."""
        return None if self.rule.policy is Policy.BACKLOG else self.rule.replicas

    @property
    def fixed(self) -> int | None:
        """How many a person asks for; None where load decides, be it by way of an autoscaler."""
        return self.rule.replicas if self.rule.policy is Policy.FIXED else None


def fleet_of(resource: Resource, rule: Rule) -> Fleet:
    """The fleet of a resource that says something of workers, and is scaled by this rule."""
    own = resource.type_name if resource.key.kind is Kind.TASK_TYPE else None
    return Fleet(resource.key, resource.uid, resource.workers or {}, rule, own)


def rule_of(workers: Mapping[str, Any]) -> Rule:
    """How workers are scaled, by a spec that keeps to its schema."""
    said: Mapping[str, Any] = workers.get("scaling", {})
    return Rule(
        policy=Policy(said.get("policy", Policy.FIXED)),
        replicas=int(workers.get("replicas", 1)),
        least=int(said.get("minReplicas", 0)),
        most=int(said.get("maxReplicas", 10)),
        slots=int(workers.get("slots", 10)),
        target_wait=float(said.get("targetWaitSeconds", 10)),
        scale_down_delay=float(said.get("scaleDownDelaySeconds", 60)),
    )
