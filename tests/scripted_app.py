"""One application for all tests of workers: handlers that do what their payload says."""

import asyncio
import os
from typing import Any

from fibflow import App, AsyncContext, Context, PermanentError, child

app = App(max_attempts=2)


@app.task("scripted", timeout=0.5)
async def scripted(ctx: AsyncContext, do: str, n: int = 0) -> Any:
    """Does what its payload says."""
    match do:
        case "ok":
            await ctx.progress("half way", percent=50)
            return {"n": n}
        case "fail" | "give up":
            raise {"fail": RuntimeError, "give up": PermanentError}[do]("broken on purpose")
        case "hang":
            await asyncio.Event().wait()
        case "spawn" if ctx.stage == 0:
            return ctx.spawn([child("threaded", {"n": k}) for k in range(3)], context=b"sum")
        case "spawn":
            return {"sum": sum(part.result for part in ctx.children), "context": (ctx.context or b"").decode()}
        case "ask" if ctx.stage == 0:
            return ctx.suspend(reason="awaiting_approval")
    return {"ask": "approved", "not json": {1, 2}}[do]


@app.task("threaded")
def threaded(ctx: Context, n: int) -> int:
    """Runs in a thread."""
    ctx.checkpoint("half_way")
    return n * n


@app.task("spinning", run_in="process", timeout=5)
def spinning(ctx: Context, n: int) -> dict[str, int]:
    """Runs in a process; a negative n spins for ever."""
    ctx.progress("begun", percent=1)
    while n < 0:
        pass
    return {"pid": os.getpid()}
