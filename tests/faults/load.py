"""The application whose workers are killed, and the tasks that they are given.

Tasks sleep 50 to 500 ms, one in a hundred 3 s. Some fail once. Among them are workflows of three levels: a root grows
children, which grow children of their own; a few roots fail once after their children are final, and grow anew.
Workflows fall due all along the run, every other one ahead of what waits, so that no part of it is without them.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fibflow import App, AsyncContext, NewTask, Options, child
from fibflow.context import Spawned

SAY_UP = "FIBFLOW_FAULTS_SAY_UP"
"""Set for a worker process, so that it says when its programs are loaded and it goes to the database."""
if SAY_UP in os.environ:
    print(f"up: {os.getpid()} at {time.time_ns() // 1000}", flush=True)

app = App()
WIDTH = 3
TREE = 1 + WIDTH + WIDTH * WIDTH
"""Tasks in a workflow."""
GROWTH = TREE - 1
"""Tasks that a root grows each time."""


@app.task("leaf")
async def leaf(ctx: AsyncContext, ms: int, fails: int = 0) -> int:
    """Takes its time; fails as often as it is told."""
    await asyncio.sleep(ms / 1000)
    if ctx.failures < fails:
        raise RuntimeError("fails on purpose")
    return 1


@app.task("branch")
async def branch(ctx: AsyncContext, ms: int, depth: int, fails: int = 0, fails_late: int = 0) -> int | Spawned:
    """Grows children, then counts what is below it."""
    await asyncio.sleep(ms / 1000)
    if ctx.failures < (fails if ctx.stage == 0 else fails_late):
        raise RuntimeError("fails on purpose")
    if ctx.stage == 0:
        return ctx.spawn([_child(Random(f"{ctx.id} {n}"), depth - 1) for n in range(WIDTH)])
    return 1 + sum(int(below.result) for below in ctx.children)


def _child(random: Random, depth: int) -> NewTask:
    if depth == 0:
        return child("leaf", _leaf(random))
    return child("branch", {"ms": _duration(random), "depth": depth, "fails": _fails(random)})


def _leaf(random: Random) -> dict[str, int]:
    return {"ms": _duration(random), "fails": _fails(random)}


def _duration(random: Random) -> int:
    return 3000 if random.random() < 0.01 else random.randint(50, 500)


def _fails(random: Random) -> int:
    return int(random.random() < 0.05)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is enqueued, and how many tasks that must make in the end."""

    tasks: Sequence[NewTask]
    roots: int
    total: int


def plan(random: Random, total: int, spread: int) -> Plan:
    """So many tasks, an eighth of them in workflows whose roots fall due over `spread` seconds."""
    roots = total // 8 // TREE
    late = max(1, roots // 20)
    grown = [_root(random, n * spread // roots, 5 * (n % 2), int(n % (roots // late) == 0)) for n in range(roots)]
    again = sum(root.payload["fails_late"] for root in grown)
    plain = [NewTask("leaf", _leaf(random)) for _ in range(total - roots * TREE - again * GROWTH)]
    return Plan([*plain, *grown], roots, total)


def _root(random: Random, delay: int, priority: int, fails_late: int) -> NewTask:
    payload = {"ms": _duration(random), "depth": 2, "fails": 0 if fails_late else _fails(random), "fails_late": fails_late}
    return NewTask("branch", payload, delay=delay, options=Options(priority=priority))
