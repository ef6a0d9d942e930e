"""Handlers that return what no database holds, and raise what nobody expects; a process imports them by name."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fibflow import App, AsyncContext, Context, NewTask, Retry, child
from fibflow.context import Spawned

app = App(timeout=20)
gate = asyncio.Event()
"""What `together` waits for, so that many attempts end at one moment."""


class Unspeakable:
    """Nothing can be said of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Speechless(Exception):
    """An error whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Harsh(BaseException):
    """What `except Exception` does not catch."""


@dataclass
class Measure:
    """JSON, but for its value."""

    value: float


class Reading(BaseModel):
    """The same, as pydantic has it."""

    value: float


VALUES: dict[str, Callable[[], Any]] = {
    "NaN": lambda: {"a": [float("nan")]},
    "infinity": lambda: float("inf"),
    "NaN in a dataclass": lambda: Measure(float("nan")),
    "NaN in a model": lambda: Reading(value=float("nan")),
    "a set": lambda: {"a": {1, 2}},
    "2 MiB": lambda: "x" * (2 << 20),
    "half a surrogate pair": lambda: ["\ud800"],
    "a NUL": lambda: {"a": "b\0"},
    "an object": object,
    "an object that cannot be shown": Unspeakable,
    "bytes": lambda: b"a",
    "a key that is no text": lambda: {1: 2},
    "a number of more than 64 bits": lambda: 1 << 64,
    "a function": lambda: len,
    "a function without a name": lambda: lambda: None,
}


@app.task("in_the_loop")
async def in_the_loop(ctx: AsyncContext, what: str) -> Any:
    """Returns a bad value."""
    return VALUES[what]()


@app.task("in_a_thread")
def in_a_thread(ctx: Context, what: str) -> Any:
    """Returns a bad value."""
    return VALUES[what]()


@app.task("in_a_process", run_in="process")
def in_a_process(ctx: Context, what: str) -> Any:
    """Returns a bad value."""
    return VALUES[what]()


@app.task("together")
async def together(ctx: AsyncContext, what: str) -> Any:
    """Returns a bad value, or a good one, when the gate opens."""
    await gate.wait()
    return VALUES[what]() if what in VALUES else what


ERRORS: dict[str, Callable[[], Any]] = {
    "an exit": lambda: exit(3),
    "an interrupt": lambda: _raise(KeyboardInterrupt()),
    "a cancellation": lambda: _raise(asyncio.CancelledError()),
    "the end of a generator": lambda: _raise(GeneratorExit()),
    "the end of an iterator": lambda: next(iter([])),
    "a harsh error": lambda: _raise(Harsh("harsh")),
    "a speechless error": lambda: _raise(Speechless()),
    "a NUL and half a surrogate pair": lambda: _raise(ValueError("a\0b\ud800c")),
    "a long error": lambda: _raise(ValueError("x" * (1 << 20))),
    "a circle of causes": lambda: _raise_in_a_circle(),
    "a retry that is put off for ever": lambda: Retry(after=1e30),
}


def _raise(error: BaseException) -> None:
    raise error


def _raise_in_a_circle() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


@app.task("raises_in_the_loop", max_attempts=1)
async def raises_in_the_loop(ctx: AsyncContext, what: str) -> None:
    """Raises."""
    ERRORS[what]()


@app.task("raises_in_a_thread", max_attempts=1)
def raises_in_a_thread(ctx: Context, what: str) -> None:
    """Raises."""
    ERRORS[what]()


@app.task("raises_in_a_process", max_attempts=1, run_in="process")
def raises_in_a_process(ctx: Context, what: str) -> None:
    """Raises."""
    ERRORS[what]()


ENDINGS: dict[str, Callable[[AsyncContext], Any]] = {
    "a child of an unknown type": lambda ctx: ctx.spawn([child("nobody")]),
    "a child with a bad payload": lambda ctx: ctx.spawn([child("together", {"what": {1}})]),
    "a child with a bad option": lambda ctx: ctx.spawn([child("together", timeout=-1)]),
    "a child that is no task": lambda ctx: ctx.spawn([{"type": "together"}]),  # type: ignore[list-item]
    "one good child among bad ones": lambda ctx: ctx.spawn([child("together"), NewTask("together", tag="\0")]),
    "no children": lambda ctx: ctx.spawn([]),
    "no children, by hand": lambda ctx: Spawned((), None),
    "a context that is no bytes": lambda ctx: ctx.spawn([child("together")], context="text"),  # type: ignore[arg-type]
    "a context above its bound": lambda ctx: ctx.suspend(reason="x", context=b"x" * ((1 << 20) + 1)),
    "a reason with a NUL": lambda ctx: ctx.suspend(reason="a\0"),
    "metadata that is no object": lambda ctx: ctx.suspend(reason="a", metadata=[1]),
    "metadata with NaN": lambda ctx: ctx.suspend(reason="a", metadata={"a": float("nan")}),
}


@app.task("ends")
async def ends(ctx: AsyncContext, what: str) -> Any:
    """Ends its attempt by something that cannot be stored."""
    return ENDINGS[what](ctx)
