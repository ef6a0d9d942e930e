"""What was measured, as build/e2e.json: one entry an id, replaced when it is measured again."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measured
from e2e.planes import FULL

FILE = Path(__file__).parents[2] / "build" / "e2e.json"


def record(id_: str, what: str, values: Sequence[float], target: float, worst: float | None = None, **more: Any) -> bool:
    """Note seconds that were measured; whether the median is within the target, and the largest within `worst`.

    Without a `worst` the largest is judged by the target, too, but for the few of a short run.
    """
    median, largest = statistics.median(values), max(values)
    bound = target if worst is None and FULL else worst
    met = median <= target and (bound is None or largest <= bound)
    entry = {"id": id_, "what": what, "median": round(median, 3), "worst": round(largest, 3), "target": target}
    measured.keep([entry | {"samples": len(values), "met": met, **more}], FILE)
    return met
