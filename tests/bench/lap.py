"""One lap: a contestant's verb, run in a process of its own.

A contestant is a module of plain functions. `run` calls one and brings its result back; `begun` is for verbs that go on
beside the harness, such as a worker that waits for tasks. The two sides talk in lines of JSON on the child's standard
output: `{"ready": true}` when the verb calls `ready()`, and `{"result": …}` at its end. Only NotImplementedError comes
back as a value, as `NotYet`, so that a table can be printed before every contestant exists; any other failure ends the
run.
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


class NotYet(Exception):
    """The contestant does not do this yet."""


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
        if "missing" in said:
            raise NotYet(said["missing"])
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
    print(json.dumps(message), flush=True)


def _main(contestant: str, verb: str, arguments: str) -> None:
    signal.alarm(LONGEST)
    try:
        result = getattr(importlib.import_module(f"bench.{contestant}"), verb)(**json.loads(arguments))
    except NotImplementedError as missing:
        _say(missing=str(missing))
    else:
        _say(result=result)


if __name__ == "__main__":
    _main(*sys.argv[1:])
