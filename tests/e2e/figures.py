"""What was measured, as build/e2e.json: one entry an id, replaced when it is measured again."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "build" / "e2e.json"


def record(id_: str, what: str, values: Sequence[float], target: float, worst: float | None = None, **more: Any) -> bool:
    """Note seconds that were measured; whether the median is within the target, and the largest within `worst`."""
    median, largest = statistics.median(values), max(values)
    met = median <= target and (worst is None or largest <= worst)
    entry = {"id": id_, "what": what, "median": round(median, 3), "worst": round(largest, 3), "target": target}
    entry |= {"samples": len(values), "met": met, **more}
    found = json.loads(FILE.read_text()) if FILE.exists() else []
    FILE.parent.mkdir(exist_ok=True)
    kept = [each for each in found if each["id"] != id_]
    FILE.write_text(json.dumps(sorted([*kept, entry], key=lambda each: str(each["id"])), indent=1) + "\n")
    return met
