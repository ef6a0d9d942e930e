"""`fibflow dev` as a child of the demo: started, watched, and stopped whatever happens.

Knows nothing of tasks. What is run with it is in demo.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

MANIFESTS = Path(__file__).resolve().with_name("manifests")

PATIENCE = 4.0
"""Seconds that a stop may take before it is forced."""


class DevDied(Exception):
    """`fibflow dev` ended though nobody had stopped it."""


class Dev:
    """Runs the manifests beside this file while the `with` block lasts."""

    def __init__(self, url: str, *, log: Path) -> None:
        self._command = [sys.executable, "-m", "fibflow", "dev", "-f", str(MANIFESTS), "--database", url]
        self._log = log

    def __enter__(self) -> Dev:
        with self._log.open("wb") as log:
            # In a session of its own: a Ctrl-C reaches the demo alone, which then stops everything in order.
            self._running = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            error.add_note(f"The last lines of `fibflow dev`:\n{self._last_words()}")
        # Listed first: when their parent is gone, nobody knows any more whose children they were.
        started: list[subprocess.Popen[bytes] | psutil.Process] = [self._running, *self._descendants()]
        self._running.terminate()
        try:
            self._running.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill(started)

    def check(self) -> None:
        """Raise `DevDied` if it has ended."""
        code = self._running.poll()
        if code is not None:
            raise DevDied(f"`fibflow dev` ended by itself with exit code {code}.")

    def _descendants(self) -> Sequence[psutil.Process]:
        try:
            return psutil.Process(self._running.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-15:]) or "(it said nothing)"


def _kill(started: Sequence[subprocess.Popen[bytes] | psutil.Process]) -> None:
    """Both kinds know whether their process is still the one that they stand for, and leave others alone."""
    for each in started:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    for each in started:
        each.wait(1)
