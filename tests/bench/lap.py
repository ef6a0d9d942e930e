"""One lap: a contestant's verb, run in a process of its own.

A contestant is a module of plain functions. `run` calls one and brings its result back; `begun` is for verbs that go on
beside the harness, such as a worker that waits for tasks. The two sides talk in lines of JSON on what the child was given
as standard output: `{"ready": true}` when the verb calls `ready()`, and `{"result": …}` at its end; whatever else the
child prints goes to standard error. Only a contestant that is not installed comes back as a value, as `Absent`, so that
a table can be printed without it; any other failure ends the run.
"""

import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LONGEST = 900
"""Seconds after which a lap ends itself: a contestant that hangs must not hang the run."""


EXTRA = {"asyncpg", "pgqueuer", "uvloop"}
"""What `make bench` installs besides; nobody else needs it."""


class Absent(Exception):
    """The contestant is not installed; the text says what of it is missing."""


@dataclass(frozen=True, slots=True)
class Lap:
    child: subprocess.Popen[str]

    def wait_until_ready(self) -> None:
        self._line("ready")

    def result(self) -> Any:
        return self._line("result")

    def _line(self, key: str) -> Any:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.child.args!r} ended with code {self.child.wait()} before it said {key!r}")
        said = json.loads(line)
        if "absent" in said:
            raise Absent(said["absent"])
        return said[key]


def run(contestant: str, verb: str, **arguments: Any) -> Any:
    with begun(contestant, verb, **arguments) as lap:
        return lap.result()


@contextmanager
def begun(contestant: str, verb: str, **arguments: Any) -> Iterator[Lap]:
    """The verb, started; its process is ended when the block is left."""
    command = [sys.executable, "-m", "bench.lap", contestant, verb, json.dumps(arguments)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        yield Lap(child)
    finally:
        _end(child)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def ready() -> None:
    """Called by a verb, in its own process: the harness may go on."""
    _say(ready=True)


def _say(**message: Any) -> None:
    print(json.dumps(message), file=sys.__stdout__, flush=True)


def _main(contestant: str, verb: str, arguments: str) -> None:
    signal.alarm(LONGEST)
    try:
        module = importlib.import_module(f"bench.{contestant}")
    except ModuleNotFoundError as missing:
        if missing.name not in EXTRA:
            raise
        _say(absent=f"{missing.name} is not installed")
        return
    _say(result=getattr(module, verb)(**json.loads(arguments)))


if __name__ == "__main__":
    sys.stdout = sys.stderr
    _main(*sys.argv[1:])
