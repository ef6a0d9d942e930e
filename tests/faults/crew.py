"""Worker processes, started as a user starts them, kept by the name of their pod.

What a process says goes to a file beside the database. Whoever leaves the block ends them all.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
COMMAND = (str(Path(sys.executable).with_name("fibflow")), "worker")


@dataclass(slots=True)
class Crew:
    """`command` and `options` are followed by the pod's name. `url`: the database."""

    url: str
    folder: Path
    command: Sequence[str]
    options: Sequence[str]
    environment: Mapping[str, str]
    pods: set[str] = field(default_factory=set)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, pod: str, *options: str) -> int:
        """Start the pod's process, with more options; the moment, in microseconds since the epoch."""
        command = [*_dying_with_us(), *self.command, *self.options, *options, "--pod-id", pod]
        self.pods.add(pod)
        moment = time.time_ns() // 1000
        with self.log(pod).open("ab") as log:
            self.running[pod] = subprocess.Popen(
                command,
                cwd=HERE,
                env={**os.environ, "FIBFLOW_DATABASE": self.url, "PYTHONUNBUFFERED": "1", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return moment

    def kill(self, pod: str) -> None:
        """End the pod's process as a crash would."""
        process = self.running.pop(pod)
        process.kill()
        process.wait()

    def tell(self, pod: str, number: signal.Signals) -> None:
        self.running[pod].send_signal(number)

    def log(self, pod: str) -> Path:
        return self.folder / f"{pod}.log"

    def said(self, pattern: str, *pods: str) -> list[Any]:
        """What the pattern's groups match in all that the pods' processes said, as `re.findall` gives it; all pods'."""
        return [found for pod in pods or self.pods for found in re.findall(pattern, self.log(pod).read_text())]

    def ended(self) -> list[str]:
        """The pods whose process ended by itself, with the last thing that they said."""
        gone = {pod: process.returncode for pod, process in self.running.items() if process.poll() is not None}
        return [f"{pod} ended with code {code}: {self.log(pod).read_text()[-500:]}" for pod, code in gone.items()]

    def stop(self) -> None:
        """Let every process drain, and end those that do not."""
        for process in self.running.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def crew(
    url: str, folder: Path, *options: str, command: Sequence[str] = COMMAND, environment: Mapping[str, str] = {}
) -> Iterator[Crew]:
    workers = Crew(url, folder, command, options, environment)
    try:
        yield workers
    except BaseException as fault:
        for pod in sorted(workers.pods):
            fault.add_note(f"{pod} said last: {workers.log(pod).read_text()[-2000:]}")
        raise
    finally:
        workers.stop()


def _dying_with_us() -> list[str]:
    """The kernel ends a worker, also one that is stopped, should we be killed before we can end it (Linux)."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
