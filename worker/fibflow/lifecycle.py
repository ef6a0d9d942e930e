"""The life of a task as one table, and what follows from an attempt's outcome. Pure: no I/O, no clock.

    pending ──claim──▶ running ──complete──▶ completed
       ▲                 │ ├──fail──▶ pending (backoff) or permanently_failed
       │                 │ └──suspend──▶ suspended ──resume──▶ pending
       └──resume── paused ◀──pause── pending, running

Docs: docs/task-lifecycle.md draws the whole of it. The store acts on what is decided here (store/settle.py,
store/control.py); the database's CHECKs refuse the rows that no transition makes (store/tables/).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from fibflow.errors import IllegalTransition
from fibflow.model import (
    DEFAULT_BACKOFF,
    DEFAULT_BACKOFF_FACTOR,
    DEFAULT_MAX_ATTEMPTS,
    INTERRUPTION_BUDGET,
    Outcome,
    Status,
)


class Transition(StrEnum):
    """What takes a task that exists from one status to another: the name of a verb."""

    CLAIM = "claim"
    COMPLETE = "complete"
    FAIL = "fail"
    TIME_OUT = "time_out"
    INTERRUPT = "interrupt"
    RECOVER = "recover"
    RELEASE = "release"
    SUSPEND = "suspend"
    SPAWN = "spawn"
    RESUME = "resume"
    PAUSE = "pause"
    CANCEL = "cancel"
    REDRIVE = "redrive"


P, R, S, Z = Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.PAUSED
C, F, X = Status.COMPLETED, Status.PERMANENTLY_FAILED, Status.CANCELLED

TRANSITIONS: dict[Transition, frozenset[tuple[Status, Status]]] = {
    Transition.CLAIM: frozenset({(P, R)}),
    Transition.COMPLETE: frozenset({(R, C)}),
    Transition.FAIL: frozenset({(R, P), (R, F)}),
    Transition.TIME_OUT: frozenset({(R, P), (R, F)}),
    Transition.INTERRUPT: frozenset({(R, P)}),
    Transition.RECOVER: frozenset({(R, P), (R, F)}),
    Transition.RELEASE: frozenset({(R, P)}),
    Transition.SUSPEND: frozenset({(R, S)}),
    Transition.SPAWN: frozenset({(R, S)}),
    Transition.RESUME: frozenset({(S, P), (Z, P)}),
    Transition.PAUSE: frozenset({(P, Z), (R, Z)}),
    Transition.CANCEL: frozenset({(P, X), (R, X), (S, X), (Z, X)}),
    Transition.REDRIVE: frozenset({(C, P), (F, P), (X, P)}),
}

TARGET: dict[Transition, Status] = {
    Transition.RESUME: P,
    Transition.PAUSE: Z,
    Transition.CANCEL: X,
    Transition.REDRIVE: P,
}
"""Where the verbs that people use lead, whatever the task was."""


def allowed(status: Status, target: Status) -> bool:
    """Whether any verb leads from one status to the other."""
    return any((status, target) in pairs for pairs in TRANSITIONS.values())


def check(verb: Transition, status: Status) -> None:
    """Raise IllegalTransition, naming both statuses, unless the verb may be used on a task of this status."""
    target = TARGET[verb]
    if (status, target) not in TRANSITIONS[verb]:
        usable = " or ".join(sorted(before for before, _ in TRANSITIONS[verb]))
        raise IllegalTransition(verb, status, target, f"; {verb} takes one that is {usable}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides the future of a task whose attempt ends. None means the default; durations in seconds."""

    failures: int = 0
    interruptions: int = 0
    max_attempts: int | None = None
    backoff: float | None = None
    backoff_factor: float | None = None
    max_backoff: float | None = None


class Next(NamedTuple):
    """What a task becomes: its status, when it is due (seconds from now), its counts, and whether it starts over."""

    status: Status
    failures: int
    interruptions: int
    delay: float = 0.0
    restart: bool = False


def after_failure(facts: Facts, *, retryable: bool = True, after: float | None = None) -> Next:
    """What follows an attempt that failed or timed out: another one after the backoff, or the end."""
    failures = facts.failures + 1
    if not retryable or failures >= (facts.max_attempts or DEFAULT_MAX_ATTEMPTS):
        return Next(Status.PERMANENTLY_FAILED, failures, facts.interruptions)
    delay = backoff_delay(facts, failures) if after is None else after
    return Next(Status.PENDING, failures, facts.interruptions, delay, restart=True)


def after_interruption(facts: Facts, chance: float = 0.0) -> Next:
    """What follows an attempt that was lost with its worker: due at its stage, until the budget is used up.

    Due at once, but from the third time on after a wait of up to 1, 2, 4 … seconds, of which `chance` (0 to 1) says how much: a
    task that kills its worker would else take along, again and again, those that were running beside it.
    """
    interruptions = facts.interruptions + 1
    status = Status.PERMANENTLY_FAILED if interruptions > INTERRUPTION_BUDGET else Status.PENDING
    wait = chance * 2.0 ** (interruptions - SUSPICIOUS) if interruptions >= SUSPICIOUS else 0.0
    return Next(status, facts.failures, interruptions, wait)


SUSPICIOUS = 3
"""Interruptions from which on a task may be what kills its workers."""


def after_release(facts: Facts) -> Next:
    """What follows a drain or a claim given back: due at once at its stage, nothing counted."""
    return Next(Status.PENDING, facts.failures, facts.interruptions)


def ended(facts: Facts, outcome: Outcome) -> Next:
    """What follows the outcomes that leave nothing to decide."""
    return Next(Status(outcome), facts.failures, facts.interruptions)


def backoff_delay(facts: Facts, failures: int) -> float:
    """Seconds until the next attempt: initial × factor^(failures − 1), at most max_backoff."""
    initial = DEFAULT_BACKOFF if facts.backoff is None else facts.backoff
    factor = DEFAULT_BACKOFF_FACTOR if facts.backoff_factor is None else facts.backoff_factor
    ceiling = LONGEST_BACKOFF if facts.max_backoff is None else facts.max_backoff
    try:
        return min(initial * factor ** (failures - 1), ceiling)
    except OverflowError:
        return ceiling


LONGEST_BACKOFF = 365 * 24 * 3600.0
