"""`fibflow dev` as a child of the demo: started, watched, and stopped whatever happens.

Knows nothing of tasks. What is run with it is in demo.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent

PATIENCE = 4.0
"""Seconds that a stop may take before it is forced."""


class DevDied(Exception):
    """`fibflow dev` ended though nobody had stopped it."""


class Dev:
    """Runs the manifests beside this file while the `with` block lasts."""

    def __init__(self, url: str, *, log: Path) -> None:
        self._command = [sys.executable, "-m", "fibflow", "dev", "-f", "manifests", "--database", url]
        self._log = log

    def __enter__(self) -> Dev:
        with self._log.open("wb") as log:
            # In the example's folder, for that is where `app:app` imports from; in a session of its own, so that a
            # Ctrl-C reaches the demo alone, which then stops everything in order.
            self._running = subprocess.Popen(
                self._command, cwd=HERE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.terminate()
        try:
            self._running.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill_all()

    def check(self) -> None:
        """Raise `DevDied` with its last words if it has ended."""
        code = self._running.poll()
        if code is not None:
            raise DevDied(f"`fibflow dev` ended with exit code {code}:\n{self.last_words()}")

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:]) or "(it said nothing)"

    def _kill_all(self) -> None:
        os.killpg(self._running.pid, signal.SIGKILL)
        self._running.wait()
