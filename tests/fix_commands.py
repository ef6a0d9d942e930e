"""The command `fibflow` as real processes that start at once: a server has imported it, and forks for each call.

A start from nothing takes half a second, nearly all of it imports. What a process does with its arguments, its folder,
its streams and its exit code is the command's own. Where `fibflow worker` would replace its process by another Python's,
the same process goes on as the worker.
"""

import importlib
import os
import pickle
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NoReturn

import pytest

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
