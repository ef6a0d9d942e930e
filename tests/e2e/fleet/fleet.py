"""One type of task that does what its payload says: for so many seconds, in so many MiB, in a process of its own."""

import asyncio
import os
import time

from fibflow import App

app = App()


@app.task("work")
async def work(ctx, payload):
    """Hold memory at the first attempt, a second after its start, and wait."""
    said = payload or {}
    if said.get("die"):
        os._exit(1)
    if said.get("fail"):
        raise ValueError("as asked")
    greedy = said.get("mebibytes_at_first", 0) if ctx.fence == 1 else 0
    if greedy:
        await asyncio.sleep(1)
    held = bytearray(greedy << 20)
    await asyncio.sleep(said.get("seconds", 0))
    return {"held": len(held)}


@app.task("apart", run_in="process")
def apart(ctx, payload):
    """The same in a process."""
    held = bytearray((payload or {}).get("mebibytes", 0) << 20)
    time.sleep((payload or {}).get("seconds", 0))
    return {"held": len(held)}
