"""The command `fibflow` as real processes that start at once: a server has imported it, and forks for each call.

A start from nothing takes half a second, nearly all of it imports. What a process does with its arguments, its folder,
its streams and its exit code is the command's own. Where `fibflow worker` would replace its process by another Python's,
the same process goes on as the worker.
"""

import importlib
import os
import pickle
import runpy
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest

from fibflow import Client
from fibflow.store.migrate import migrate
from fibflow.store.tasktypes import Declaration

Text = str | bytes


class Commands:
    """Runs commands one at a time."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._server = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe)

    def __call__(self, *arguments: Text, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run `fibflow` with these arguments, in this process's folder and environment, to its end."""
        assert self._server.stdin is not None and self._server.stdout is not None
        pickle.dump((arguments, os.getcwd(), dict(os.environ), stdin), self._server.stdin)
        self._server.stdin.flush()
        return subprocess.CompletedProcess(arguments, *pickle.load(self._server.stdout))

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


@pytest.fixture(scope="session")
def fibflow() -> Iterator[Commands]:
    """Runs the command."""
    commands = Commands()
    yield commands
    commands.close()


HEAD = "apiVersion: fibflow.dev/v1alpha1\nkind: {}\nmetadata: {{name: it}}\nspec: "
POOL = HEAD.format("WorkerPool") + "{app: 'shop:app'}\n"
"""A manifest's beginning, and a pool of the application that `shop` holds."""


@pytest.fixture(scope="session")
def resizing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the task type `resize` and one task."""
    file = tmp_path_factory.mktemp("resizing") / "fibflow.db"
    migrate(f"sqlite:///{file}")
    client = Client(f"sqlite:///{file}")
    client.declare_types([Declaration("resize")])
    client.enqueue("resize")
    client.close()
    return file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    for name in ("FIBFLOW_DATABASE", "FIBFLOW_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def refused(done: subprocess.CompletedProcess[bytes], *fragments: str) -> None:
    """The command was refused: with exit code 2, in one line that says all of this, and without a traceback."""
    told = done.stderr.decode(errors="surrogateescape")
    assert done.returncode == 2, told
    assert done.stdout == b""
    assert "Traceback" not in told
    for fragment in fragments:
        assert fragment in told
    assert "Error: " in told or told.startswith("fibflow worker: ")


def content(file: Path) -> list[str]:
    """All that a SQLite database holds."""
    with sqlite3.connect(file) as connection:
        dump = list(connection.iterdump())
    connection.close()
    return dump


@pytest.fixture
def shop(folder: Path) -> Path:
    """A folder with an application and a manifest."""
    (folder / "shop.py").write_text("from fibflow import App\napp = App()\n")
    (folder / "it.yaml").write_text(POOL)
    return folder


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Fork for each request until there are no more."""
    for module in ("fibflow.cli", "fibflow.client", "fibflow.dev", "fibflow_worker.runtime"):
        importlib.import_module(module)
    while requests.peek(1):  # type: ignore[attr-defined]
        arguments, folder, environment, given = pickle.load(requests)
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            stdin.write(given)
            stdin.seek(0)
            child = os.fork()
            if child == 0:
                _become(arguments, folder, environment, [each.fileno() for each in (stdin, stdout, stderr)])
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            stdout.seek(0)
            stderr.seek(0)
            pickle.dump((code, stdout.read(), stderr.read()), answers)
            answers.flush()


def _become(arguments: Sequence[Text], folder: str, environment: dict[str, str], streams: Sequence[int]) -> NoReturn:
    """Be the command, in the forked child."""
    code: object = 1
    try:
        for wanted, stream in enumerate(streams):
            os.dup2(stream, wanted)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[:] = ["fibflow", *map(os.fsdecode, arguments)]
        os.execv = _go_on  # type: ignore[assignment]
        sys.modules["fibflow.cli"].main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def _go_on(_program: str, command: Sequence[str]) -> NoReturn:
    """What `python -m MODULE ARGUMENTS` would do, without its start."""
    module, *sys.argv[1:] = command[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    serve(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
