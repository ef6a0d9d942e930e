"""The demo: runs the example on this machine, kills a worker, and shows that nothing was lost.

The story only, in the order it happens. How `fibflow dev` is started and stopped is in demo_dev.py, how the workflow is
followed in demo_run.py, what must be true at the end in demo_claims.py, what a person sees in demo_screen.py.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pydantic import TypeAdapter

from demo_claims import Findings, Kill, claims
from demo_dev import Dev, DevDied
from demo_run import Run, WorkflowFailed
from demo_screen import Screen
from fibflow import Client
from fibflow.errors import FibflowError
from inventory import Report, count_package, merge, packages, standard_library

DEADLINE = 54.0
"""Seconds until the demo gives up; stopping what it started takes up to four more."""

FAILS_ONCE = "antigravity"
HANGS_ONCE = "this"


class TooLate(BaseException):
    """The demo's deadline has passed. Not an Exception, so that no library takes it for a failure of its own."""


def main() -> int:
    screen = Screen()
    try:
        with _deadline(), tempfile.TemporaryDirectory(prefix="fibflow-demo-") as folder:
            return _demo(screen, Path(folder))
    except TooLate as error:
        return screen.gave_up(f"after {DEADLINE:.0f} s it still waited until {screen.waiting_for}.", _notes(error))
    except (DevDied, WorkflowFailed, FibflowError) as error:
        return screen.gave_up(str(error), _notes(error))
    except KeyboardInterrupt:
        return screen.gave_up("it was interrupted.")


def _demo(screen: Screen, folder: Path) -> int:
    url, report_path = f"sqlite:///{folder / 'demo.db'}", folder / "report.json"
    payload = {"report_path": str(report_path), "fail_once": FAILS_ONCE, "hang_once": HANGS_ONCE}
    with Dev(url, log=folder / "dev.log") as dev, screen:
        run = Run(Client(url), dev, screen, payload)
        kill = run.kill_until_recovered()
        run.approve()
        run.complete()
        findings = _findings(run, kill, report_path)
    return _tell(screen, run, kill, findings)


def _findings(run: Run, kill: Kill, report_path: Path) -> Findings:
    return Findings(
        children=run.children(),
        recoveries=run.recoveries(kill),
        fates=run.fates(kill),
        failing=run.history(FAILS_ONCE),
        hanging=run.history(HANGS_ONCE),
        ticks=run.tick(),
        report=TypeAdapter(Report).validate_json(report_path.read_bytes()),
        direct=_directly(),
    )


def _directly() -> Report:
    """The same report without tasks: one process, one loop."""
    root = standard_library()
    return merge([count_package(name, root, files) for name, files in packages(root).items()])


def _tell(screen: Screen, run: Run, kill: Kill, findings: Findings) -> int:
    first = findings.recoveries[0]
    screen.report(findings.report)
    screen.recovery(first, run.timeline(first.event.task_id))
    screen.ticks(findings.ticks)
    broken = [claim for claim in screen.claims(claims(findings)) if not claim.holds]
    if broken:
        return screen.gave_up("; ".join(f"it is not so that {claim.sentence}" for claim in broken) + ".")
    return screen.done()


def _notes(error: BaseException) -> Sequence[str]:
    return getattr(error, "__notes__", ())


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise `TooLate` in whatever is being waited for; a polite request to end is taken like a Ctrl-C."""

    def too_late(number: int, frame: FrameType | None) -> None:
        raise TooLate

    signal.signal(signal.SIGALRM, too_late)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main())
