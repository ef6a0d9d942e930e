"""The application of workers that are stopped: handlers that write late, and those that others go on with meanwhile.

The first attempt of a task runs in the worker that is stopped, and waits for the gate, a file, before it does what its
payload says. Every later attempt runs elsewhere and returns at once.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from fibflow import App, AsyncContext, Context, child

GATE = "FIBFLOW_FAULTS_GATE"
ELSEWHERE = "elsewhere"
LATE_TIMEOUT = 4.0
"""Seconds after which an endless handler is timed out."""
CUTS = 6
"""Task types whose first attempt is stopped inside its settle; each has a worker of its own (cuts.py)."""
app, relatives, strangers = App(), App(), App()


def _gate_is_open() -> bool:
    return Path(os.environ[GATE]).exists()


@app.task("late")
async def late(ctx: AsyncContext, verb: str) -> Any:
    """Writes late: by an await, or by what it returns."""
    if ctx.attempt > 1:
        return ELSEWHERE
    while not _gate_is_open():
        await asyncio.sleep(0.01)
    match verb:
        case "progress":
            await ctx.progress("late", percent=99)
        case "checkpoint":
            await ctx.checkpoint("late")
    return _end(ctx, verb)


@app.task("late_in_thread")
def late_in_thread(ctx: Context, verb: str) -> Any:
    """Writes late from a thread, which nobody can cancel."""
    if ctx.attempt > 1:
        return ELSEWHERE
    while not _gate_is_open():
        time.sleep(0.01)
    match verb:
        case "progress":
            ctx.progress("late", percent=99)
        case "checkpoint":
            ctx.checkpoint("late")
    return _end(ctx, verb)


@app.task("endless")
@app.task("endless_until_timeout", timeout=LATE_TIMEOUT)
async def endless(ctx: AsyncContext) -> str:
    """Is still there when its time is up, or its worker drains."""
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    return ELSEWHERE


def _end(ctx: Context | AsyncContext, verb: str) -> Any:
    match verb:
        case "fail":
            raise RuntimeError("late")
        case "suspend":
            return ctx.suspend(reason="late", context=b"late")
        case "spawn":
            return ctx.spawn([child("other")], context=b"late")
    return "late"


async def cut(ctx: AsyncContext, verb: str) -> Any:
    """Ends at once: its worker is stopped while it settles that."""
    return ELSEWHERE if ctx.attempt > 1 else _end(ctx, verb)


for number in range(CUTS):
    app.add(f"cut_{number}", cut)


@app.task("parent")
async def parent(ctx: AsyncContext, number: int, verb: str) -> Any:
    """Waits for a task that is cut, and for one that is not."""
    if ctx.stage == 0:
        return ctx.spawn([child(f"cut_{number}", {"verb": verb}), child("other")])
    return [below.result for below in ctx.children]


@app.task("other")
async def other(ctx: AsyncContext) -> str:
    """Is done by a worker that nobody stops; long enough that a sibling of its is stopped first."""
    await asyncio.sleep(0.5)
    return ELSEWHERE


@app.task("unrelated")
async def unrelated(ctx: AsyncContext) -> str:
    """Has nothing to do with it."""
    await asyncio.sleep(0.01)
    return ELSEWHERE


for bystanders, types in ((relatives, ("parent", "other")), (strangers, ("unrelated",))):
    for name in types:
        bystanders.add(name, app.handlers[name].function)
