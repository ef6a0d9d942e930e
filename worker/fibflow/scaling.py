"""Scaling: how many workers a pool should have, from what waits, what comes in, and how long it takes. Pure.

    slots = arrival rate × service time + backlog × service time ÷ target wait       summed over the pool's types
    pods  = slots ÷ slots of one pod, rounded up, between the least and the most

Of a type of which one pod runs only so many at once, that is what one pod has for it: the type that asks for most pods decides.

Up at once, to what is wanted now. Down only to the most that was wanted within the stabilisation window, though never to more
than the most that there may be, and never while pods of an older template are replaced: what is idle there may be about to go
anyway. Where a signal is missing nothing changes: neither an empty answer nor an old one says that there is no work. Who goes
first is not decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

DEFAULT_SERVICE_TIME = 1.0
"""Seconds that a task is taken to need while none of its type has ended."""
LEAST_TARGET = 1.0
SPARED = 0.1
"""What would fill less than such a part of one more pod is left to the others."""
LEAST_SLOTS = 0.05
"""What comes in and would keep less than that of a slot busy keeps no pod."""


class Policy(StrEnum):
    """Who decides how many workers a pool has."""

    BACKLOG = "Backlog"
    EXTERNAL = "External"
    FIXED = "Fixed"


class Because(StrEnum):
    """Why it is decided so."""

    FIXED = "Fixed"
    EXTERNAL = "External"
    DEMAND = "Demand"
    NO_DEMAND = "NoDemand"
    AT_LEAST = "AtLeast"
    AT_MOST = "AtMost"
    WARM_UP = "WarmUp"
    STABILISING = "Stabilising"
    ROLLOUT = "Rollout"
    NO_SIGNAL = "NoSignal"


@dataclass(frozen=True, slots=True)
class Rule:
    """How a pool is scaled. `slots`: of one worker; durations in seconds; `replicas` counts where nobody else decides."""

    policy: Policy = Policy.FIXED
    replicas: int = 1
    least: int = 0
    most: int = 10
    slots: int = 10
    target_wait: float = 10.0
    scale_down_delay: float = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a type asks for: due tasks that wait, tasks that run, tasks that come in a second, seconds that one takes.

    `per_worker`: how many of them one worker runs at once, None for as many as it has slots.
    """

    waiting: int = 0
    running: int = 0
    arrival_rate: float = 0.0
    service_time: float | None = None
    per_worker: int | None = None

    def slots(self, target_wait: float) -> float:
        """The slots that keep up with what comes in, and clear what waits within the target; what runs keeps its own."""
        service = DEFAULT_SERVICE_TIME if self.service_time is None else self.service_time
        steady = max(self.arrival_rate * service, float(self.running))
        return steady + self.waiting * service / max(target_wait, service, LEAST_TARGET)


@dataclass(frozen=True, slots=True)
class Signal:
    """What is known of a pool at a moment (seconds). `loads` is None when it could not be read; `due_soon`: a cron tick is
    about to come; `rolling`: pods of an older template are still there."""

    at: float
    current: int
    loads: Sequence[Load] | None
    due_soon: bool = False
    rolling: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, why, and how many the load alone asks for."""

    replicas: int
    because: Because
    wanted: int


@dataclass(frozen=True, slots=True)
class History:
    """What was wanted within the stabilisation window: (moment, pods), the oldest first."""

    wanted: tuple[tuple[float, int], ...] = ()

    def with_(self, at: float, pods: int, window: float) -> History:
        """With one more, and without what is older than the window."""
        return replace(self, wanted=(*(each for each in self.wanted if each[0] > at - window), (at, pods)))

    @property
    def most(self) -> int:
        return max((pods for _, pods in self.wanted), default=0)


def decide(rule: Rule, signal: Signal, history: History) -> tuple[Decision, History]:
    """How many workers there should be now, and the history for the next decision."""
    if rule.policy is not Policy.BACKLOG:
        because = Because.EXTERNAL if rule.policy is Policy.EXTERNAL else Because.FIXED
        return Decision(rule.replicas, because, rule.replicas), History()
    if signal.loads is None:
        held = history.with_(signal.at, signal.current, rule.scale_down_delay)  # what is there is wanted meanwhile
        return Decision(signal.current, Because.NO_SIGNAL, signal.current), held
    asked, because = _asked(rule, signal)
    if not history.wanted:  # whoever decided before us wanted what is there
        history = History(((signal.at, signal.current),))
    history = history.with_(signal.at, asked, rule.scale_down_delay)
    if asked >= signal.current:
        return Decision(asked, because, asked), history
    if signal.rolling:
        return Decision(signal.current, Because.ROLLOUT, asked), history
    lowest = min(history.most, rule.most, signal.current)
    return Decision(lowest, because if lowest == asked else Because.STABILISING, asked), history


def _asked(rule: Rule, signal: Signal) -> tuple[int, Because]:
    """What the load asks for, within the bounds."""
    pods = demand(signal.loads or (), rule)
    asked, because = pods, Because.DEMAND if pods else Because.NO_DEMAND
    if signal.due_soon and asked == 0:
        asked, because = 1, Because.WARM_UP
    if asked < rule.least:
        return rule.least, Because.AT_LEAST
    if asked > rule.most:
        return rule.most, Because.AT_MOST
    return asked, because


def demand(loads: Iterable[Load], rule: Rule) -> int:
    """The pods that the load alone asks for: one at least where anything waits or runs, or would keep a slot busy."""
    asked = [(load, load.slots(rule.target_wait)) for load in loads]
    slots = sum(each for _, each in asked)
    if slots < LEAST_SLOTS and not any(load.waiting or load.running for load, _ in asked):
        return 0
    pods = max([slots / rule.slots, *(each / load.per_worker for load, each in asked if load.per_worker)])
    return max(math.ceil(round(pods - SPARED, 6)), 1)
