"""The parent's side of one child: it is started, told a call, heard until that ends, and killed if need be.

The child's side is child.py; which child serves which call, and the protocol, is the story of processes.py.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from fibflow.errors import FibflowError
from fibflow_worker.child import LENGTH, Answer, Noted, Raised, Returned, Run, framed, pickled_error

BOOT = """
import sys
descriptor, sys.path[:] = int(sys.argv[1]), sys.argv[2:]
del sys.argv[1:]
from fibflow_worker.child import main
main(descriptor)
"""
LAST_BREATH = 5.0
"""Seconds in which a killed child is expected to be gone."""


OnNote = Callable[[Any], Awaitable[None]]


class ChildDied(FibflowError):
    """The child ended while it ran the call. `status`: its exit status, or minus the signal that killed it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the process that ran the handler {_fate(status)}")
        self.status = status


def _fate(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"was killed by {name}" + (" (out of memory?)" if status == -signal.SIGKILL else "")


class Call:
    """A call from the moment it is asked for, also while it waits for a child."""

    def __init__(self, number: int, job: bytes, on_note: OnNote) -> None:
        self.number, self.job, self.on_note = number, job, on_note
        self.cancelled: str | None = None
        self.child: Child | None = None


async def start() -> Child:
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", BOOT, str(theirs.fileno()), *sys.path),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        # No await that suspends from here on: a cancellation would lose the child.
        return Child(process, ours)
    except BaseException:
        ours.close()
        raise


class Child:
    """One child and the socket to it; `exit` ends with its status."""

    def __init__(self, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self._process = process
        self._socket = ours
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.exit = asyncio.create_task(process.wait())
        self.exit.add_done_callback(lambda _: self._clear_up())

    async def converse(self, call: Call) -> Returned | Raised:
        """Make a call and answer its notes until it ends. Raises ChildDied."""
        try:
            reader = await self._connected()
            self.tell(Run(call.number, call.job, call.cancelled))
            call.child = self
            while isinstance(message := await _receive(reader), Noted):
                self.tell(await _answer(call.on_note, message))
            return message
        except (OSError, EOFError) as error:
            raise ChildDied(await self._status()) from error
        finally:
            call.child = None

    async def _connected(self) -> asyncio.StreamReader:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(sock=self._socket)
        return self._streams[0]

    def tell(self, message: NamedTuple) -> None:
        """Say something; a child that is gone does not hear it, and `converse` learns that it is gone."""
        if self._streams is not None:
            self._streams[1].write(framed(message))

    async def _status(self) -> int:
        """How it died; a child that only closed its socket is killed."""
        await asyncio.wait([self.exit], timeout=1)
        await self.kill()
        return self.exit.result() if self.exit.done() else -signal.SIGKILL

    async def kill(self) -> None:
        """Kill it and what it started, and see it gone; one that the kernel holds on to is not waited for long."""
        if self._process.returncode is None:
            self._kill_group()
        await asyncio.wait([self.exit], timeout=LAST_BREATH)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _clear_up(self) -> None:
        """It is gone: end what it left behind, and the conversation."""
        self._kill_group()
        self._hang_up()

    def _hang_up(self) -> None:
        """End the conversation; a reader that waits gets end of file."""
        if self._streams is None:
            self._socket.close()
        else:
            self._streams[1].close()


async def _receive(reader: asyncio.StreamReader) -> Noted | Returned | Raised:
    length = int.from_bytes(await reader.readexactly(LENGTH), "big")
    message: Noted | Returned | Raised = pickle.loads(await reader.readexactly(length))
    return message


async def _answer(on_note: OnNote, note: Noted) -> Answer:
    try:
        await on_note(pickle.loads(note.value))
    except Exception as error:
        return Answer(pickled_error(error) or pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}")))
    return Answer(None)
