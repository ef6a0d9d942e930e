"""Worker processes on this machine, kept as a cluster keeps pods: one for each replica, under a name that stays.

    wanted ──start──▶ running ──ends──▶ waiting ──pause over──▶ running …
                         │
                         └─ no longer wanted, or its command changed: SIGTERM, drain, SIGKILL

A process that ends is started again under the same pod id after a pause that doubles from 0.1 s to 5 s; one that lived
longer than 10 s begins again at 0.1 s. Of the pods that are there from the beginning, one whose first process ends within
that time with exit code 2 (bad input) has never worked: it is refused, and not started again.

Nothing here waits: `turn` does what is due and returns. What a worker does, and where its command comes from, is not known
here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
LONG_LIFE = 10.0
BAD_INPUT = 2
"""The exit code of a worker to which something was given that it cannot work with."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pod:
    """What is to run: a command under a pod id. `drain`: seconds it may take to stop."""

    id: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(hash=False)
    folder: Path
    drain: float


@dataclass(slots=True)
class Run:
    """One process of a pod. `kill_at` (monotonic seconds) is set once it was asked to stop."""

    pod: Pod
    process: subprocess.Popen[bytes]
    started_at: float
    kill_at: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Not to start a pod before `until` (monotonic seconds), after having waited `length`."""

    until: float
    length: float


def pause_after(lived: float, before: Pause | None, now: float) -> Pause:
    """How long a pod waits whose process lived so many seconds and which waited `before` ahead of it."""
    if before is None or lived > LONG_LIFE:
        return Pause(now + SHORTEST_PAUSE, SHORTEST_PAUSE)
    length = min(before.length * 2, LONGEST_PAUSE)
    return Pause(now + length, length)


def ending(code: int) -> str:
    """How a process ended, for people."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class Pods:
    """The pods that are wanted and the processes that run. Call `turn` often."""

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._wanted: dict[str, Pod] = {}
        self._runs: dict[str, Run] = {}
        self._pauses: dict[str, Pause] = {}
        self._untried: set[str] = set()
        self.refused: str | None = None
        """The pod that is not started again."""

    def begin(self, pods: Mapping[str, Pod]) -> None:
        """Want these, and refuse one that cannot work with what it is given."""
        self.want(pods)
        self._untried = set(pods)

    def want(self, pods: Mapping[str, Pod]) -> None:
        """From now on these, by id; what differs is stopped, and started anew if it is still wanted."""
        for name, pod in pods.items():
            if pod != self._wanted.get(name):
                self._pauses.pop(name, None)
                self._untried.discard(name)
        self._wanted = dict(pods)

    @property
    def running(self) -> int:
        return len(self._runs)

    def turn(self) -> None:
        """See what ended, stop what is not wanted, start what is due."""
        now = self._clock()
        for run in list(self._runs.values()):
            self._see(run, now)
        for run in list(self._runs.values()):
            if self._wanted.get(run.pod.id) != run.pod:
                self._stop(run, now)
        for name, pod in self._wanted.items():
            if name not in self._runs and self._due(name, now):
                self._start(pod, now)

    def kill(self) -> None:
        """End every process now."""
        for run in self._runs.values():
            run.process.kill()
        for run in list(self._runs.values()):
            run.process.wait()
            self._see(run, self._clock())

    def _see(self, run: Run, now: float) -> None:
        code = run.process.poll()
        if code is None:
            return
        name = run.pod.id
        del self._runs[name]
        if run.kill_at is not None or self._wanted.get(name) != run.pod:
            self._pauses.pop(name, None)
            self._say(f"{name} stopped (pid {run.process.pid}, {ending(code)})")
            return
        ended = f"{name} ended (pid {run.process.pid}, {ending(code)})"
        if name in self._untried and code == BAD_INPUT and now - run.started_at < LONG_LIFE:
            self.refused = name
            del self._wanted[name]
            self._say(ended)
            return
        self._untried.discard(name)
        pause = self._pauses[name] = pause_after(now - run.started_at, self._pauses.get(name), now)
        self._say(f"{ended}; starts again in {pause.length:g} s")

    def _stop(self, run: Run, now: float) -> None:
        if run.kill_at is None:
            run.kill_at = now + run.pod.drain
            run.process.terminate()
        elif now >= run.kill_at:
            run.process.kill()

    def _due(self, name: str, now: float) -> bool:
        pause = self._pauses.get(name)
        return pause is None or now >= pause.until

    def _start(self, pod: Pod, now: float) -> None:
        # A process group of its own: Ctrl-C on the terminal reaches us alone, and we stop everything in order.
        try:
            process = subprocess.Popen(
                pod.command,
                env={**os.environ, **pod.env},
                cwd=pod.folder,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            pause = self._pauses[pod.id] = pause_after(0, self._pauses.get(pod.id), now)
            self._say(f"{pod.id} did not start ({error.strerror}); tries again in {pause.length:g} s")
            return
        self._runs[pod.id] = Run(pod, process, now)
        self._say(f"{pod.id} started (pid {process.pid})")
