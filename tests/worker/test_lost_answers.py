"""A connection that is cut after COMMIT was sent: what was settled is neither lost nor settled again, what was claimed runs."""

import asyncio
from collections import Counter
from types import SimpleNamespace as Scripted
from typing import Any

import pytest
import sqlalchemy as sa

from cutting_proxy import CuttingProxy
from fibflow import Client, Outcome, PermanentError, Status
from fibflow.context import child
from fibflow.errors import OutcomeUnknown
from fibflow.lifecycle import Facts, ended
from fibflow.store import record
from fibflow.store.database import Database
from fibflow.store.ending import Ending
from fibflow.store.stale import stale_writes
from fibflow_worker.maintenance import Maintenance
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings
from fix_semantics import Gate, serving, until

TASKS, CUT = 30, 3


@pytest.fixture
def cut(database, database_url):
    """A function that gives a database behind a proxy which can cut connections at a mark."""
    if not database.postgresql:
        pytest.skip("SQLite has no connection to cut")
    proxies = []

    def behind(mark: bytes) -> tuple[Database, CuttingProxy]:
        url = sa.make_url(database_url)
        proxies.append(CuttingProxy(url.port or 5432, mark))
        return Database(url.set(port=proxies[-1].port).render_as_string(hide_password=False)), proxies[-1]

    yield behind
    for proxy in proxies:
        proxy.close()


async def completes(ctx):
    await asyncio.sleep(0)
    return ctx.attempt


async def fails(ctx):
    await asyncio.sleep(0)
    raise PermanentError("on purpose")


async def suspends(ctx):
    await asyncio.sleep(0)
    return ctx.suspend(reason="approval")


async def spawns(ctx):
    await asyncio.sleep(0)
    return ctx.attempt if ctx.stage else ctx.spawn([child("leaf"), child("leaf")])


ENDS = {
    "completes": (completes, Status.COMPLETED, [Outcome.COMPLETED], 0),
    "fails": (fails, Status.PERMANENTLY_FAILED, [Outcome.FAILED], 0),
    "suspends": (suspends, Status.SUSPENDED, [Outcome.SUSPENDED], 0),
    "spawns": (spawns, Status.COMPLETED, [Outcome.SUSPENDED, Outcome.COMPLETED], 2),
}
"""What a handler does, what its task becomes, how its attempts end, and how many children it has."""


@pytest.mark.parametrize("mark", [b"COMMIT", b"WITH lane"], ids=["after COMMIT", "after a claim"])
@pytest.mark.parametrize(("handler", "status", "outcomes", "children"), ENDS.values(), ids=ENDS)
def test_a_lost_answer_neither_loses_nor_doubles_anything(workplace, cut, mark, handler, status, outcomes, children):
    app = serving(work=handler, leaf=completes)
    app.sync(workplace.database)
    client = Client(workplace.database)
    behind, proxy = cut(mark)
    worker = Worker(app, behind, Settings(slots=5, poll_interval=0.05, heartbeat_interval=1000, lease=3600))
    workplace.run(worker)
    proxy.left = CUT
    ids = [client.enqueue("work") for _ in range(TASKS)]
    until(lambda: client.tasks(type="work", status=status, limit=1).total == TASKS)
    assert proxy.left <= 0, "nothing was cut"
    attempts = [client.attempts(task_id).items for task_id in ids]
    assert [[(a.attempt, a.outcome) for a in of_task] for of_task in attempts] == [list(enumerate(outcomes, 1))] * TASKS
    leaves = client.tasks(type="leaf", limit=None).items
    assert Counter(leaf.parent_id for leaf in leaves) == Counter(dict.fromkeys(ids, children))
    assert all(len(client.attempts(leaf.id).items) == 1 for leaf in leaves)
    assert _counted(worker) == TASKS * len(outcomes) + len(leaves), "claims were counted otherwise than they were"
    assert workplace.database.call(stale_writes) == 0


@pytest.mark.parametrize("place", ["loop", "thread"])
def test_a_report_whose_answer_was_lost_is_stored_once(workplace, cut, place):
    """Nothing else is committed meanwhile, so that it is the first report that loses its answer."""
    behind, proxy = cut(b"COMMIT")
    gate = Gate()

    async def in_the_loop(ctx):
        await gate.passed()
        await ctx.progress("begun")
        await ctx.progress("begun")
        await ctx.checkpoint("half")

    def in_a_thread(ctx):
        gate.wait()
        ctx.progress("begun")
        ctx.progress("begun")
        ctx.checkpoint("half")

    app = serving(work=in_the_loop if place == "loop" else in_a_thread)
    app.sync(workplace.database)
    workplace.run(Worker(app, behind, Settings(slots=5, poll_interval=0.05, heartbeat_interval=1000, lease=3600)))
    task_id = Client(workplace.database).enqueue("work", max_attempts=1)
    gate.reached()
    proxy.left = 1
    gate.open()
    assert workplace.ended(task_id).status is Status.COMPLETED
    assert proxy.left <= 0, "nothing was cut"
    told = [event for event in workplace.events(task_id) if event in ("progress", "checkpoint")]
    assert told == ["progress", "progress", "checkpoint"]


@pytest.mark.parametrize("lost", [False, True])
def test_what_a_lost_answer_told_of_is_started_unless_the_worker_was_lost_meanwhile(lost):
    started: list[Any] = []

    async def run(verb, worker_id, keys):
        lease.holds = lambda id: id == worker_id and not lost
        return [*keys]

    lease = Scripted(worker_id=7)
    turns = Scripted(start=started.extend, knock=lambda: None)
    own: Any = (Scripted(run=run), Settings(), Scripted(), Scripted(), turns, lease, None)
    asyncio.run(Maintenance(*own)._start_unheard({(1, 1)}))
    assert started == ([] if lost else [(1, 1)])


def _counted(worker):
    """How many claims the worker's metrics tell of."""
    samples = [sample for metric in worker.tallies.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name == "fibflow_claims_total")


def test_a_spawn_whose_answer_was_lost_is_recognised_when_it_comes_again(workplace, cut):
    """Nothing else is committed meanwhile, so that it is the spawn that loses its answer."""
    app = serving(work=spawns, leaf=completes)
    app.sync(workplace.database)
    worker_id = workplace.registered()
    row = workplace.taken(worker_id, "work")
    ending = Ending(row.id, row.attempt, worker_id, Outcome.SUSPENDED, ended(Facts(), Outcome.SUSPENDED), children=2)
    behind, proxy = cut(b"COMMIT")
    proxy.left = 1
    spawn = (record.spawn, worker_id, ending, [child("leaf"), child("leaf")])
    with pytest.raises(OutcomeUnknown):
        behind.call(*spawn)
    assert behind.call(*spawn) == []
    assert len(workplace.children(row.id)) == 2
    assert workplace.outcomes(row.id) == ["suspended"]
    assert workplace.database.call(stale_writes) == 0
    behind.close()
