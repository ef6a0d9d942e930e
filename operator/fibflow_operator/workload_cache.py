"""The workload cache: the newest version that was seen of each Deployment, disruption budget and pod.

Informers fill it from events and complete lists: an older version changes nothing, and what is missing from a complete list
is gone. `world` is the same for our own resources. What a pod's state means is in `pods`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from fibflow.store.synced import Name
from fibflow_operator.pods import POOL, Pod
from fibflow_operator.world import REMEMBERED

__all__ = ["DIGEST", "POOL", "Budget", "Deployment", "WorkloadCache", "budget", "contains", "deployment"]

DIGEST = "fibflow.dev/digest"
"""The annotation of a Deployment that says what was applied to it."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What a Deployment and its disruption budget have in common, as they were seen.

    `owner` is the uid of what controls it, `controller` how that is called, for a person.
    """

    name: Name
    uid: str
    pool: str
    version: int
    generation: int
    owner: str | None
    controller: str | None
    digest: str | None
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Budget(Owned):
    """A PodDisruptionBudget."""


@dataclass(frozen=True, slots=True)
class Deployment(Owned):
    """A Deployment. `wanted`, `replicas`, `updated` and `ready` in pods; `complaint`: why pods cannot be made."""

    wanted: int
    observed: int
    replicas: int
    updated: int
    ready: int
    complaint: str | None

    @property
    def all_updated(self) -> bool:
        """Whether there are as many pods as are wanted, all of the newest template; ready or not."""
        return self.observed >= self.generation and self.updated == self.replicas == self.wanted

    @property
    def rolled_out(self) -> bool:
        """Whether all that is wanted is there, of the newest template, and ready; and nothing else."""
        return self.all_updated and self.ready == self.wanted

    @property
    def rolling(self) -> bool:
        """Whether pods of an older template are still there, or it is not known whether."""
        return self.observed < self.generation or self.updated < self.replicas


def budget(raw: Mapping[str, Any]) -> Budget:
    """A PodDisruptionBudget from the API's JSON."""
    return Budget(**_owned(raw))


def deployment(raw: Mapping[str, Any]) -> Deployment:
    """A Deployment from the API's JSON."""
    spec, status = raw["spec"], raw.get("status", {})
    failures = [each for each in status.get("conditions", ()) if each["type"] == "ReplicaFailure" and each["status"] == "True"]
    return Deployment(
        **_owned(raw),
        wanted=int(spec.get("replicas", 1)),
        observed=int(status.get("observedGeneration", 0)),
        replicas=int(status.get("replicas", 0)),
        updated=int(status.get("updatedReplicas", 0)),
        ready=int(status.get("readyReplicas", 0)),
        complaint=str(failures[0].get("message", "")) if failures else None,
    )


def _owned(raw: Mapping[str, Any]) -> dict[str, Any]:
    metadata = raw["metadata"]
    owners: list[Mapping[str, Any]] = [each for each in metadata.get("ownerReferences", ()) if each.get("controller")]
    owner = owners[0] if owners else {}
    return {
        "name": Name(metadata["namespace"], metadata["name"]),
        "uid": metadata["uid"],
        "pool": metadata.get("labels", {}).get(POOL, ""),
        "version": int(metadata["resourceVersion"]),
        "generation": int(metadata.get("generation", 0)),
        "owner": owner.get("uid"),
        "controller": f"{owner.get('kind')} {owner.get('name')}" if owner else None,
        "digest": metadata.get("annotations", {}).get(DIGEST),
        "spec": raw.get("spec", {}),
    }


P = TypeVar("P", Deployment, Budget)


class Newest(dict[Name, P]):
    """The newest version that was seen of each, by name."""

    def __init__(self) -> None:
        super().__init__()
        self._complete: set[str | None] = set()
        self._gone: OrderedDict[Name, int] = OrderedDict()

    def knows(self, namespace: str) -> bool:
        """Whether what is not known in a namespace is not there."""
        return bool({namespace, None} & self._complete)

    def see(self, seen: P, deleted: bool = False) -> None:
        """It was seen, for the last time or not; an answer that comes after the news of its end brings nothing back."""
        known = self.get(seen.name)
        if max(known.version if known else 0, self._gone.get(seen.name, 0)) > seen.version:
            return
        if deleted:
            self.pop(seen.name, None)
            self._remember(seen.name, seen.version)
        else:
            self[seen.name] = seen

    def see_all(self, namespace: str | None, version: int, seen: Iterable[P]) -> set[Name]:
        """A complete list, as of a version, of a namespace or of all; those that changed."""
        before: dict[Name, P] = dict(self)
        listed = {each.name: each for each in seen}
        for name, known in before.items():
            if namespace in (None, name.namespace) and name not in listed and known.version <= version:
                del self[name]
                self._remember(name, known.version)
        for each in listed.values():
            self.see(each)
        self._complete.add(namespace)
        return {name for name in {*before, *self} if before.get(name) != self.get(name)}

    def _remember(self, name: Name, version: int) -> None:
        self._gone[name] = version
        self._gone.move_to_end(name)
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)


@dataclass(slots=True)
class WorkloadCache:
    """Not for several threads."""

    deployments: Newest[Deployment] = field(default_factory=Newest)
    budgets: Newest[Budget] = field(default_factory=Newest)
    pods: dict[str, Pod] = field(default_factory=dict)
    """By uid."""
    listed: set[str | None] = field(default_factory=set)
    """The namespaces whose pods were listed, None for all."""

    def knows(self, namespace: str) -> bool:
        """Whether a Deployment or a budget that is not known is not there."""
        return self.deployments.knows(namespace) and self.budgets.knows(namespace)

    def knows_pods(self, namespace: str) -> bool:
        """Whether a pod that is not known is not there, or has come since."""
        return bool({namespace, None} & self.listed)

    def see(self, seen: Deployment | Budget) -> None:
        """It was seen, as it is."""
        if isinstance(seen, Deployment):
            self.deployments.see(seen)
        else:
            self.budgets.see(seen)

    def of_pool(self, namespace: str, pool: str) -> list[Pod]:
        """The pods of a pool, the newest first."""
        found = [pod for pod in self.pods.values() if (pod.namespace, pod.pool) == (namespace, pool)]
        return sorted(found, key=lambda pod: (pod.created, pod.name), reverse=True)

    def see_pod(self, pod: Pod) -> bool:
        """Whether that is news."""
        known = self.pods.get(pod.uid)
        if known is not None and known.version >= pod.version:
            return False
        self.pods[pod.uid] = pod
        return True

    def missing(self, namespace: str | None, version: int, listed: Collection[str]) -> list[Pod]:
        """The pods that are not in a complete list, as of a version."""
        inside = (pod for pod in self.pods.values() if namespace in (None, pod.namespace))
        return [pod for pod in inside if pod.uid not in listed and pod.version <= version]


def contains(seen: Any, wanted: Any) -> bool:
    """Whether all that is wanted is seen; what the API server added is left aside, quantities are compared as numbers."""
    if isinstance(wanted, Mapping):
        return isinstance(seen, Mapping) and all(contains(seen.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        same_length = isinstance(seen, list) and len(seen) == len(wanted)
        return same_length and all(contains(*pair) for pair in zip(seen, wanted, strict=True))
    return bool(seen == wanted) or (quantity(seen) is not None and quantity(seen) == quantity(wanted))


BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
DECIMAL = {"n": "1e-9", "u": "1e-6", "m": "1e-3", "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12", "P": "1e15", "E": "1e18"}


def quantity(value: object) -> Decimal | None:
    """An amount as the API writes it, such as 500m or 1Gi; None for anything else."""
    text = str(value)
    for ending, factor in (*BINARY.items(), *DECIMAL.items(), ("", 1)):
        if text.endswith(ending):
            try:
                return Decimal(text.removesuffix(ending)) * Decimal(factor)
            except InvalidOperation:
                continue
    return None
