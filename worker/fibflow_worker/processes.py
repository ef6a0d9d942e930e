"""A pool of warm children in which handlers run, one at a time each, and can be killed.

The protocol. A child is an interpreter of its own (child.py), started when first needed, in its own process group, with
this program's path and folder; the program's main module is not run again. Over one socket it is told a call, may send
notes, each answered before the next, and tells how the call ended; then it is idle and serves the next one. A call that
is abandoned for any reason (its task is cancelled, the child died, the conversation broke) takes its child with it: the
whole group gets SIGKILL, and a new child is started when one is needed. So a child is idle only after an orderly end,
and nothing of an abandoned call is running any more when `run` raises. What a child leaves behind when it ends by itself is
killed, too, and a copy of it that a handler forked may not speak for it. A child's death is noticed by its exit, not only
by its socket, which programs that the handler started may hold open. A child whose parent is gone exits by itself.

The pool must be used from one event loop, in a thread that outlives it: Linux kills the children with that thread.

What a handler, an attempt or a lease is, and how long a call may take, is not known here: execution.py decides.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import sys
from collections.abc import Callable, Hashable
from typing import Any

from fibflow.errors import FibflowError, InvalidInput
from fibflow_worker.child import Cancel, Link, Raised, Returned
from fibflow_worker.parent import Call, Child, ChildDied, OnNote, start

Entry = Callable[[Link, Any], Any]

__all__ = ["ChildDied", "ChildError", "Processes"]


class ChildError(FibflowError):
    """The entry raised. `text` is its traceback; `original` the exception itself, None when it does not pickle."""

    def __init__(self, type_name: str, text: str, original: BaseException | None) -> None:
        super().__init__(text)
        self.type_name, self.text, self.original = type_name, text, original


class Processes:
    """At most `size` calls at once, each in a child of its own. `close` it in the end."""

    def __init__(self, size: int) -> None:
        self._room = asyncio.Semaphore(size)
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._calls: dict[Hashable, Call] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    async def run(self, entry: Entry, argument: Any, on_note: OnNote, *, key: Hashable = None) -> Any:
        """The value of `entry(link, argument)`, called in a child; `key` names the call for `cancel`.

        Every `link.note(value)` there is an `await on_note(value)` here, and raises there what that raised.
        Cancelling this kills the child. Raises InvalidInput, ChildError, ChildDied.
        """
        call = Call(next(self._numbers), _job(entry, argument), on_note)
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

    async def _converse(self, call: Call) -> Returned | Raised:
        child = await self._child()
        try:
            ending = await child.converse(call)
        except BaseException:
            await child.kill()
            raise
        self._idle.append(child)
        return ending

    async def _child(self) -> Child:
        """An idle child, the one that was busy last, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if not child.exit.done():
                return child
        return await self._new_child()

    async def _new_child(self) -> Child:
        if self._closed:
            raise RuntimeError("this pool of processes is closed")
        child = await start()
        self._children.add(child)
        child.exit.add_done_callback(lambda _: self._children.discard(child))
        if self._closed:
            await child.kill()
        return child


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
