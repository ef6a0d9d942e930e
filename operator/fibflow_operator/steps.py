"""The next step towards the Deployment of a fleet and its disruption budget, and whose they are if not ours. Pure.

A Deployment is made by POST with no replicas, then given its template by server-side apply, which never says replicas; a
disruption budget stands beside it. Later it is scaled by `/scale`: an apply that is silent about replicas makes one pod of
a Deployment that it creates. What is not controlled by its resource, and by that very one, is never touched; what is, and
lost the label by which it is followed, gets it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from fibflow_operator.deployment import budget, digest_of, template
from fibflow_operator.fleet import Fleet
from fibflow_operator.reasons import Reason, Refusal
from fibflow_operator.workload_cache import POOL, Budget, Deployment, contains


class Step(Enum):
    """What is to be done to a Deployment next."""

    CREATE = "create"
    APPLY = "apply"
    CREATE_BUDGET = "create budget"
    APPLY_BUDGET = "apply budget"
    REFUSE = "refuse"
    REFUSE_BUDGET = "refuse budget"
    """It is another's."""


Applied = tuple[str, int] | None
"""The digest that was applied last, and the object's generation after that."""


def next_step(fleet: Fleet, seen: Deployment | None, cover: Budget | None, applied: Applied, covered: Applied) -> Step | None:
    """The next step, None when all is as it should be.

    `cover`: the disruption budget; `applied` and `covered` of the two, so that what the API server writes in another way than
    we do is not applied for ever.
    """
    if seen is None:
        return Step.CREATE
    if seen.owner != fleet.uid:
        return Step.REFUSE
    if cover is None:
        return Step.CREATE_BUDGET
    if cover.owner != fleet.uid:
        return Step.REFUSE_BUDGET
    if _differs(cover, budget(fleet), covered):
        return Step.APPLY_BUDGET
    return Step.APPLY if _differs(seen, template(fleet), applied) else None


def _differs(seen: Deployment | Budget, wanted: Mapping[str, Any], applied: Applied) -> bool:
    digest = digest_of(wanted)
    if seen.digest != digest or seen.pool != wanted["metadata"]["labels"][POOL]:
        return True
    return not contains(seen.spec, wanted["spec"]) and applied != (digest, seen.generation)


# ── whose it is ───────────────────────────────────────────────────────────────────────────────────────────────────


def taken(fleet: Fleet, seen: Deployment | Budget) -> Refusal:
    """What is told of an object that has the name of ours and is not controlled by the fleet's resource."""
    kind = "Deployment" if isinstance(seen, Deployment) else "PodDisruptionBudget"
    return Refusal(Reason.NAME_TAKEN, f"the {kind} {seen.name.name} {_whose(fleet, seen)}")


FORMER = "belongs to a former {} and goes with it; wait until the cluster has deleted it, or delete it"
ANOTHERS = "belongs to {} and is left alone; delete that one, or give this resource another name"
LEFT = "has our label, and no resource of ours controls it any more; delete it, and it is made anew"
NOBODYS = "belongs to somebody else and is left alone; delete it, or give this resource another name"


def _whose(fleet: Fleet, seen: Deployment | Budget) -> str:
    own = f"{fleet.key.kind} {fleet.key.name}"
    if seen.controller is not None:
        return FORMER.format(own) if seen.controller == own else ANOTHERS.format(seen.controller)
    return LEFT if seen.pool == fleet.pool else NOBODYS
