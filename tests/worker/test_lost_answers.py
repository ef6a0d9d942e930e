"""A connection that is cut after COMMIT was sent: what was settled is neither lost nor settled again, what was claimed runs."""

import asyncio

import pytest
import sqlalchemy as sa

from cutting_proxy import CuttingProxy
from fibflow import Client, Outcome
from fibflow.store.database import Database
from fibflow.store.stale import stale_writes
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings
from fix_semantics import serving, until

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


@pytest.mark.parametrize("mark", [b"COMMIT", b"WITH lane"], ids=["after COMMIT", "after a claim"])
def test_a_lost_answer_neither_loses_nor_doubles_anything(workplace, cut, mark):
    async def work(ctx, payload):
        await asyncio.sleep(0)
        return ctx.attempt

    app = serving(work=work)
    app.sync(workplace.database)
    client = Client(workplace.database)
    behind, proxy = cut(mark)
    workplace.run(Worker(app, behind, Settings(slots=5, poll_interval=0.05, heartbeat_interval=1000, lease=3600)))
    proxy.left = CUT
    ids = [client.enqueue("work") for _ in range(TASKS)]
    until(lambda: client.tasks(status="completed", limit=1).total == TASKS)
    assert proxy.left <= 0, "nothing was cut"
    attempts = [client.attempts(task_id).items for task_id in ids]
    assert [[(a.attempt, a.outcome) for a in of_task] for of_task in attempts] == [[(1, Outcome.COMPLETED)]] * TASKS
    assert workplace.database.call(stale_writes) == 0
