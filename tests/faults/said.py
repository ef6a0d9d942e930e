"""What workers that were stopped said of their writes (stopped_worker.py), and waiting for what is to happen."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from faults.crew import Crew


@dataclass(frozen=True, slots=True)
class Writes:
    """What workers tried to write for attempts, by verb, what of it was refused, and what had no answer.

    `accepted` names what was not refused: (worker, task, fence, verb).
    """

    tried: Counter[str]
    refused: Counter[str]
    unanswered: int
    accepted: Sequence[tuple[int, int, int, str]]


def writes_of(stopped: Crew) -> Writes:
    tried, refused, unanswered = Counter[str](), Counter[str](), 0
    accepted: list[tuple[int, int, int, str]] = []
    for line in map(orjson.loads, stopped.said(r"wrote: (.*)\n")):
        if line["error"] is not None:
            unanswered += len(line["tried"])
            continue
        keys = {(task_id, fence) for task_id, fence, _ in line["refused"]}
        tried.update(verb for _, _, verb in line["tried"])
        refused.update(verb for task_id, fence, verb in line["tried"] if (task_id, fence) in keys)
        accepted += [(line["worker"], *key) for key in line["tried"] if tuple(key[:2]) not in keys]
    return Writes(tried, refused, unanswered, accepted)


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something that is to happen. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)
