"""What can go wrong between a client and the API server: one class a fault, and which calls it befalls.

Each says what the client sees. Nothing here is done yet: that is gateway.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from .calls import Call

REASONS = {403: "Forbidden", 409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An error instead of an answer; the API server never hears of the call. `retry_after` is in seconds."""

    status: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """A watch begins, and its first event is the error 410: the version it would go on from is forgotten."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The call is passed on so many seconds late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection breaks before the API server hears of the call."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The API server does what it is asked, and the connection breaks before the client hears of it."""


Fault = Answer | Gone | Latency | Cut | Lost


@dataclass(slots=True)
class Rule:
    """A fault for the calls that fit, `times` of them; `hits` counts those it befell."""

    fault: Fault
    where: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None
    hits: int = 0

    def takes(self, call: Call) -> bool:
        """Whether it befalls this call, which is counted then."""
        if self.hits == self.times or not call.fits(self.where):
            return False
        self.hits += 1
        return True


def status(code: int) -> dict[str, object]:
    """The API's own form of an error."""
    reason = REASONS.get(code, "Unknown")
    said = {"status": "Failure", "reason": reason, "code": code, "message": f"{reason}: a fault made for a test"}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}} | said


def gone_event() -> bytes:
    """The event that ends a watch whose version is forgotten."""
    return json.dumps({"type": "ERROR", "object": status(410)}).encode() + b"\n"
