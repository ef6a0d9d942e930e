"""The child's side of processes.py: it waits for a call, runs it in its main thread, tells how it ended, waits again.

Everything it hears comes over one socket and is read by one thread, so that a cancellation, the answer to a note, and
the end of the parent are noticed while the main thread is busy. End of file means that the parent is gone: the child
exits at once, whatever the handler does. Linux is also asked to kill it then, for a handler that never lets go of the
interpreter (a long regular expression). SIGINT and SIGTERM do nothing here: the parent decides.

What the two sides say to each other is the tuples below. A value from the application travels inside them as a pickle
of its own, so that one that does not unpickle is an error of that call and not of the conversation.

It imports little, since it stays: an idle child is an interpreter, and the application comes with the first call.
What a call is, and when it must die, is known to the parent alone.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

LENGTH = 8
"""Bytes of the length that goes before every message, big-endian."""


class Run(NamedTuple):
    """Parent to child: call this. `job` is a pickled pair (entry, argument); `cancelled` a reason given already."""

    number: int
    job: bytes
    cancelled: str | None


class Cancel(NamedTuple):
    """Parent to child: call `number` should end, for this reason."""

    number: int
    reason: str


class Answer(NamedTuple):
    """Parent to child: the note is taken, or the pickled exception to raise in its place."""

    error: bytes | None


class Noted(NamedTuple):
    """Child to parent: a pickled note; the child waits for the answer."""

    value: bytes


class Returned(NamedTuple):
    """Child to parent: the call's pickled value."""

    value: bytes


class Raised(NamedTuple):
    """Child to parent: how the call failed; `error` is the pickled exception, None when it does not pickle."""

    type_name: str
    text: str
    error: bytes | None


def main(descriptor: int) -> None:
    """Serve calls for ever; `descriptor` is the socket to the parent."""
    _die_with_the_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN, which the programs that a handler starts would inherit.
        signal.signal(number, _ignored)
    conversation = Conversation(socket.socket(fileno=descriptor))
    threading.Thread(target=conversation.listen, name="fibflow-parent", daemon=True).start()
    while True:
        run, link = conversation.runs.get()
        ending = perform(run, link)
        if not conversation.is_ours():
            os._exit(1)  # a handler forked, and its copy came back as well: the answer is that of the child itself
        link.end()
        with suppress(Exception):
            sys.stdout.flush()
        conversation.send(ending)


def _ignored(_number: int, _frame: object) -> None:
    pass


def _die_with_the_parent() -> None:
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


class Link:
    """What an entry has of its parent. Its methods may be called from any thread of the child."""

    def __init__(self, conversation: Conversation, cancelled: str | None) -> None:
        self.cancelled = cancelled
        self._conversation = conversation
        self._lock = threading.Lock()
        self._ended = False

    def note(self, value: Any) -> None:
        """Hand a value to the parent and wait until it is taken. Raises what the parent raised."""
        pickled = pickle.dumps(value)
        with self._lock:
            if not self._conversation.is_ours():
                raise RuntimeError("a note from a process that the handler forked; only the handler itself may report")
            if self._ended:
                raise RuntimeError("a note after the call has ended; wait for your threads before you return")
            self._conversation.send(Noted(pickled))
            answer = self._conversation.answers.get()
        if answer.error is not None:
            raise pickle.loads(answer.error)

    def end(self) -> None:
        """Refuse notes from now on; one that is under way is finished first."""
        with self._lock:
            self._ended = True


class Conversation:
    """The socket to the parent: one thread listens, any thread speaks, a whole message at a time."""

    def __init__(self, parent: socket.socket) -> None:
        self.runs: queue.SimpleQueue[tuple[Run, Link]] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._pid = os.getpid()
        self._parent = parent
        self._stream = parent.makefile("rb")
        self._speaking = threading.Lock()
        self._current: tuple[int, Link] | None = None
        parent.set_inheritable(False)

    def is_ours(self) -> bool:
        """False in a copy of this process that a handler forked: it holds the socket, and nobody listens to it."""
        return os.getpid() == self._pid

    def send(self, message: NamedTuple) -> None:
        """Say something to the parent; it is not there any more: exit."""
        try:
            with self._speaking:
                self._parent.sendall(framed(message))
        except OSError:
            os._exit(1)

    def listen(self) -> None:
        """Hear the parent until it is gone; then exit, whatever the main thread does."""
        try:
            while True:
                self._hear(self._receive())
        finally:
            os._exit(1)

    def _receive(self) -> Any:
        length = int.from_bytes(self._exactly(LENGTH), "big")
        return pickle.loads(self._exactly(length))

    def _exactly(self, size: int) -> bytes:
        read = self._stream.read(size)
        if len(read) < size:
            raise EOFError
        return read

    def _hear(self, message: Run | Cancel | Answer) -> None:
        match message:
            case Run():
                link = Link(self, message.cancelled)
                self._current = message.number, link
                self.runs.put((message, link))
            case Answer():
                self.answers.put(message)
            case Cancel() if self._current is not None and self._current[0] == message.number:
                self._current[1].cancelled = message.reason


def perform(run: Run, link: Link) -> Returned | Raised:
    """Make the call; how it ended, as a value."""
    try:
        entry, argument = pickle.loads(run.job)
        return Returned(_pickled(entry(link, argument)))
    except BaseException as error:
        return Raised(type(error).__name__, _text(error), pickled_error(error))


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        from fibflow.errors import InvalidInput

        raise InvalidInput("result", value, f"does not pickle ({error}); return plain values") from error


def _text(error: BaseException) -> str:
    """The traceback from the entry on."""
    import traceback  # only a failing call pays for it

    below = error.__traceback__ and error.__traceback__.tb_next
    return "".join(traceback.format_exception(type(error), error, below))


# ── shared with the parent ────────────────────────────────────────────────────────────────────────────────────────


def framed(message: NamedTuple) -> bytes:
    """A message as it goes over the socket."""
    pickled = pickle.dumps(message)
    return len(pickled).to_bytes(LENGTH, "big") + pickled


def pickled_error(error: BaseException) -> bytes | None:
    """An exception as a pickle that is known to unpickle to the same; None when there is no such pickle."""
    attempts: tuple[Callable[[], bytes], ...] = (
        lambda: pickle.dumps(error),
        # Many exceptions build their message from other arguments, and unpickling would call __init__ with the message.
        lambda: pickle.dumps(_Rebuilt(error)),
    )
    for attempt in attempts:
        with suppress(Exception):
            pickled = attempt()
            copy = pickle.loads(pickled)
            if type(copy) is type(error) and str(copy) == str(error):
                return pickled
    return None


class _Rebuilt:
    """Stands for an exception in a pickle, and unpickles to it without a call of its __init__."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (type(self.error), self.error.args, self.error.__dict__)


def rebuild(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """An exception of this kind with these arguments and attributes."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error
