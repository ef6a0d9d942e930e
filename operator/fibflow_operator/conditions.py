"""Conditions of a status: how a new finding changes what a status says already.

`lastTransitionTime` moves only when the status does, whoever wrote the condition before. What reasons there are is in
`reasons`; when a finding is right is decided in `verdict` and `worker_verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fibflow_operator.reasons import Reason, Type

LONGEST_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What is true now, of one type of condition."""

    type: Type
    status: bool
    reason: Reason
    message: str = ""


def merged(
    findings: Iterable[Finding], status: Mapping[str, Any], generation: int, now: datetime, keep: bool = False
) -> list[dict[str, Any]]:
    """The conditions that a status is to have, with the times of those whose status stays.

    `keep` leaves those that nothing was found about as they are.
    """
    before = {str(each.get("type")): each for each in written(status)}
    found = {str(each.type): _condition(each, before.get(str(each.type), {}), generation, now) for each in findings}
    others = {name: dict(each) for name, each in before.items() if keep and name not in found}
    return [*found.values(), *others.values()]


def _condition(finding: Finding, before: Mapping[str, Any], generation: int, now: datetime) -> dict[str, Any]:
    status = str(finding.status)
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "type": str(finding.type),
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since if isinstance(since, str) else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "reason": str(finding.reason),
        "message": shortened(finding.message),
    }


def shortened(message: str) -> str:
    """A message of one line that no terminal obeys and no status is too long for."""
    line = "".join(char if char.isprintable() else " " for char in message)
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 3] + "..."


def written(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions that a status has, whoever wrote them."""
    found = status.get("conditions")
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
