"""Types of tasks that do what their payload says: for so many seconds, in so many MiB, in a process of their own, too late."""

import asyncio
import os
import time

from fibflow import App, Client
from fibflow.store.database import Database
from fibflow.store.record import note_running, progress_note

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


@app.task("late", timeout=600)
def late(ctx, payload):
    """At the first attempt, write until that is refused, over a connection that waits for as long as the network takes."""
    if ctx.fence > 1:
        return "elsewhere"
    patient = Database(os.environ["FIBFLOW_DATABASE"], namespace=os.environ["FIBFLOW_NAMESPACE"], patience=120)
    owner = Client(patient).get(ctx.id).worker_id or 0
    note, shown = progress_note("is written", None, None, None, None)
    while patient.call(note_running, owner, ctx.id, ctx.fence, note, shown) is None:
        time.sleep(0.2)
    return "too late"
