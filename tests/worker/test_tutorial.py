"""The tutorial keeps its promises: its own files are saved, its own commands run, and what it says of them comes true.

Times, durations and process ids may be others, `…` stands for any text that was left out, and what is only looked at is
looked at again until it is as promised.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from fix_semantics import until

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"([^\n]*)\n\n```(\w+)\n(.*?)\n```(?=\n)", re.DOTALL)
LOOKS = ("fibflow types", "fibflow tree", "fibflow show", "fibflow list", "fibflow cron list")
SECONDS = 60
VARY = {
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?Z": "TIME",
    r"\d+\.\d{3} s\b": "DURATION",
    r"pid \d+": "PID",
    r"[ \t]+": " ",
    r" $": "",
}


@dataclass
class Step:
    """A block of the tutorial: the line before it (empty after another block), its kind, its text."""

    lead: str
    kind: str
    text: str


def steps() -> list[Step]:
    return [Step(*found) for found in BLOCK.findall(TUTORIAL.read_text())]


def alike(text: str) -> str:
    """A text without what varies."""
    for pattern, name in VARY.items():
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text.strip()


def kept(promised: str, came: str) -> bool:
    """Whether all of this came, but for what was left out."""
    parts = [re.escape(part.strip()) for part in alike(promised).split("…")]
    return re.fullmatch(r".*".join(parts), alike(came), re.DOTALL) is not None


class Reader:
    """Somebody who does what the tutorial says, in an empty folder, in two terminals."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ran = folder, list[str]()
        self.first: subprocess.Popen[bytes] | None = None
        self.screen = folder.parent / "first terminal"
        here = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self.environment = {**os.environ, "PATH": here}
        for name in ("FIBFLOW_DATABASE", "FIBFLOW_NAMESPACE", "PYTHONPATH"):
            self.environment.pop(name, None)

    def save(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def run(self, command: str) -> str:
        """What a command printed; one that stays in the foreground keeps the first terminal."""
        self.ran.append(command)
        if not command.startswith("fibflow dev"):
            done = self._shell(command, stdout=subprocess.PIPE)
            told = done.communicate(timeout=SECONDS)[0].decode()
            assert done.returncode == 0, f"{command}: {told}"
            return told
        with self.screen.open("wb") as screen:
            self.first = self._shell(f"exec {command}", stdout=screen)
        return ""

    def _shell(self, command: str, stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
        shell = ["sh", "-c", command]
        return subprocess.Popen(shell, cwd=self.folder, env=self.environment, stdout=stdout, stderr=subprocess.STDOUT)

    def interrupt(self) -> None:
        assert self.first is not None
        self.first.send_signal(signal.SIGINT)
        assert self.first.wait(SECONDS) == 0

    def sees(self, promised: str, command: str, came: str) -> None:
        """What was promised of a command has come, or comes."""
        deadline = time.monotonic() + SECONDS
        while not kept(promised, came):
            may_come = command.startswith(LOOKS) and time.monotonic() < deadline
            assert may_come, f"{command}: promised {promised}\nbut came {came}"
            came = self.run(command)

    def sees_in_the_first_terminal(self, promised: str) -> None:
        until(lambda: kept(f"…{promised}…", self.screen.read_text()), SECONDS)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "shop"
    folder.mkdir()
    reading = Reader(folder)
    yield reading
    if reading.first is not None and reading.first.poll() is None:
        reading.first.kill()
        reading.first.wait()


def test_every_command_of_the_tutorial_does_what_it_promises(reader):
    command = came = ""
    for step in steps():
        if named := re.search(r"Save this as `(.+)`:$", step.lead):
            reader.save(named[1], step.text)
        elif step.kind == "sh":
            (command,) = step.text.splitlines()
            came = reader.run(command)
        elif "Ctrl-C" in step.lead:
            reader.interrupt()
            reader.sees_in_the_first_terminal(step.text)
        elif command.startswith("fibflow dev"):
            reader.sees_in_the_first_terminal(step.text)
        else:
            assert step.kind == "text"
            reader.sees(step.text, command, came)
    assert TUTORIAL.read_text().count("```") == 2 * len(steps())
    assert {path.name for path in reader.folder.iterdir()} >= {"shop.py", "manifests", "fibflow.db"}


def test_a_promise_that_did_not_come_true_is_seen():
    assert kept("1 pack  0.009 s\n…\nend", "1   pack 12.345 s \nmore\nend\n")
    assert not kept("1 pack completed", "1 pack failed")
    assert not kept("1 pack", "1 pack\n2 pack")
    assert not kept("…\n2 pack", "2 pack\n1 pack")
