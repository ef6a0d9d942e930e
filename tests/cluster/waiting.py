"""Wait for what only asking can tell: whether a server answers yet, whether a file system lets go.

It asks in short steps up to a limit. Where the kernel or Kubernetes can wake us, we wait for that instead (pidfds,
`kubectl wait`, watches).
"""

import time
from collections.abc import Callable

STEP = 0.05  # seconds between two questions


def until(answer: Callable[[], object], seconds: float, what: str, step: float = STEP) -> None:
    """Return once `answer()` is true; say `what` did not come after so many seconds."""
    deadline = time.monotonic() + seconds
    while not answer():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} seconds")
        time.sleep(step)
