"""What was measured, as JSON: a list of entries with an `id`; each is replaced when it is measured again.

Every entry tells which commit it was measured on, as far as that is known.
"""

import json
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def keep(entries: Iterable[dict[str, Any]], file: Path) -> None:
    """Write the entries, beside those of other ids that the file has."""
    measured = {str(entry["id"]): entry | {"commit": _commit()} for entry in entries}
    found = json.loads(file.read_text()) if file.exists() else []
    everything = {str(entry["id"]): entry for entry in found} | measured
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([everything[id] for id in sorted(everything)], indent=1) + "\n")


@cache
def _commit() -> str | None:
    """The commit that is checked out, with `+` if files differ from it."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()
