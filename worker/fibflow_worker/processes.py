"""A pool of warm children in which handlers run, one at a time each, and can be killed.

The protocol. A child is an interpreter of its own (child.py), started when first needed, in its own process group, with
this program's path and folder; the program's main module is not run again. Over one socket it is told a call, may send
notes, each answered before the next, and tells how the call ended; then it is idle and serves the next one. A call that
is abandoned for any reason (its task is cancelled, the child died, the conversation broke) takes its child with it: the
whole group gets SIGKILL, and a new child is started when one is needed. So a child is idle only after an orderly end,
and nothing of an abandoned call is running any more when `run` raises. A child's death is noticed by its exit, not only
by its socket, which programs that the handler started may hold open. A child whose parent is gone exits by itself.

The pool must be used from one event loop, in a thread that outlives it: Linux kills the children with that thread.

What a handler, an attempt or a lease is, and how long a call may take, is not known here: execution.py decides.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any, NamedTuple

from fibflow.errors import FibflowError, InvalidInput
from fibflow_worker.child import LENGTH, Answer, Cancel, Link, Noted, Raised, Returned, Run, framed, pickled_error

Entry = Callable[[Link, Any], Any]
OnNote = Callable[[Any], Awaitable[None]]

BOOT = """
import sys
descriptor, sys.path[:] = int(sys.argv[1]), sys.argv[2:]
del sys.argv[1:]
from fibflow_worker.child import main
main(descriptor)
"""
LAST_BREATH = 5.0
"""Seconds in which a killed child is expected to be gone."""


class ChildError(FibflowError):
    """The entry raised. `text` is its traceback; `original` the exception itself, None when it does not pickle."""

    def __init__(self, type_name: str, text: str, original: BaseException | None) -> None:
        super().__init__(text)
        self.type_name, self.text, self.original = type_name, text, original


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


class Processes:
    """At most `size` calls at once, each in a child of its own. `close` it in the end."""

    def __init__(self, size: int) -> None:
        self._room = asyncio.Semaphore(size)
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []
        self._calls: dict[Hashable, _Call] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    async def run(self, entry: Entry, argument: Any, on_note: OnNote, *, key: Hashable = None) -> Any:
        """The value of `entry(link, argument)`, called in a child; `key` names the call for `cancel`.

        Every `link.note(value)` there is an `await on_note(value)` here, and raises there what that raised.
        Cancelling this kills the child. Raises InvalidInput, ChildError, ChildDied.
        """
        call = _Call(next(self._numbers), _job(entry, argument), on_note)
        key = call if key is None else key
        if key in self._calls:
            raise InvalidInput("key", key, "names a call that is still running")
        self._calls[key] = call
        try:
            async with self._room:
                ending = await self._converse(call)
        finally:
            del self._calls[key]
        return _value(ending)

    def cancel(self, key: Hashable, reason: str) -> bool:
        """Let the call see `link.cancelled`; nothing is killed. False when there is no such call."""
        call = self._calls.get(key)
        if call is None:
            return False
        call.cancelled = reason
        if call.child is not None:
            call.child.tell(Cancel(call.number, reason))
        return True

    async def close(self) -> None:
        """Kill all children; calls that are running raise ChildDied."""
        self._closed = True
        await asyncio.gather(*(child.kill() for child in list(self._children)))

    async def _converse(self, call: _Call) -> Returned | Raised:
        child = await self._child()
        try:
            ending = await child.converse(call)
        except BaseException:
            await child.kill()
            raise
        self._idle.append(child)
        return ending

    async def _child(self) -> _Child:
        """An idle child, the one that was busy last, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if not child.exit.done():
                return child
        return await self._new_child()

    async def _new_child(self) -> _Child:
        if self._closed:
            raise RuntimeError("this pool of processes is closed")
        child = await _start()
        self._children.add(child)
        child.exit.add_done_callback(lambda _: self._children.discard(child))
        if self._closed:
            await child.kill()
        return child


class _Call:
    """A call from the moment it is asked for, also while it waits for a child."""

    def __init__(self, number: int, job: bytes, on_note: OnNote) -> None:
        self.number, self.job, self.on_note = number, job, on_note
        self.cancelled: str | None = None
        self.child: _Child | None = None


def _job(entry: Entry, argument: Any) -> bytes:
    check_importable(entry)
    try:
        return pickle.dumps((entry, argument))
    except Exception as error:
        raise InvalidInput("argument", argument, f"does not pickle ({error}); pass plain values") from error


def check_importable(function: Callable[..., Any]) -> None:
    """Raises InvalidInput for a function that a child could not import by its module and name."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module == "__main__":
        raise InvalidInput("function", function, "is in the main module, which no child runs; move it to another")
    found: Any = sys.modules.get(module or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function:
        raise InvalidInput("function", function, "cannot be imported by a child; define it at the top of a module")


def _value(ending: Returned | Raised) -> Any:
    if isinstance(ending, Returned):
        return pickle.loads(ending.value)
    original = None if ending.error is None else pickle.loads(ending.error)
    raise ChildError(ending.type_name, ending.text, original) from original


async def _start() -> _Child:
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
        return _Child(process, ours)
    except BaseException:
        ours.close()
        raise


class _Child:
    """One child and the socket to it; `exit` ends with its status."""

    def __init__(self, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self._process = process
        self._socket = ours
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.exit = asyncio.create_task(process.wait())
        self.exit.add_done_callback(lambda _: self._hang_up())

    async def converse(self, call: _Call) -> Returned | Raised:
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
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.wait([self.exit], timeout=LAST_BREATH)

    def _hang_up(self) -> None:
        """End the conversation with a child that is gone; a reader that waits gets end of file."""
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
