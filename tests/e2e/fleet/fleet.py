"""One type of task that does what its payload says: for so many seconds, in so many MiB, in a process of its own."""

import asyncio
import time

from fibflow import App

app = App()


@app.task("work")
async def work(ctx, payload):
    """Wait; then say where."""
    held = bytearray(int((payload or {}).get("mebibytes", 0)) << 20)
    await asyncio.sleep((payload or {}).get("seconds", 0))
    return {"held": len(held)}


@app.task("apart", run_in="process")
def apart(ctx, payload):
    """The same in a process."""
    held = bytearray((payload or {}).get("mebibytes", 0) << 20)
    time.sleep((payload or {}).get("seconds", 0))
    return {"held": len(held)}
