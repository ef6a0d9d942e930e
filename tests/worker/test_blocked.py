"""What others hold blocks the results that need it, and nothing else that a worker does (PostgreSQL)."""

from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from fibflow import Options, Status, child
from fibflow.store import tables
from fibflow.store.cron import CronDeclaration, put_cron
from fix_semantics import Gate, serving, until

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def echo(ctx, payload):
    return payload


@contextmanager
def held(workplace, table, row_id=None):
    """As long as it lasts, another transaction holds a row, or all of a table; the server does not end it."""
    with workplace.database.engine.connect() as holding:
        holding.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        rows = sa.select(table).where(table.c.id == (table.c.id if row_id is None else row_id))
        holding.execute(rows.with_for_update())
        yield


def test_results_beside_blocked_ones_are_settled_and_the_worker_goes_on(workplace):
    """Children of a parent that somebody holds end in the same batch as a task that has no parent."""
    gate = Gate()

    async def gated(ctx, payload):
        await gate.passed()

    async def parent(ctx, payload):
        return ctx.spawn([child("gated") for _ in range(3)]) if ctx.stage == 0 else len(ctx.children)

    worker = workplace.start(serving(parent=parent, gated=gated, alone=echo), slots=8)
    parent_id = workplace.client.enqueue("parent")
    until(lambda: len(worker._slots.running) == 3)
    beside = workplace.client.enqueue("gated")
    until(lambda: len(worker._slots.running) == 4)
    with held(workplace, tables.task, parent_id):
        gate.open()
        assert workplace.ended(beside).status is Status.COMPLETED
        until(lambda: len(worker._slots.blocked) == 3)
        assert [workplace.outcome("alone", {"n": n}).result for n in range(5)] == [{"n": n} for n in range(5)]
        assert {workplace.client.get(kid).status for kid in workplace.children(parent_id)} == {Status.RUNNING}
    assert workplace.ended(parent_id).result == 3
    assert {len(workplace.outcomes(kid)) for kid in workplace.children(parent_id)} == {1}


async def completes(ctx):
    return "done"


async def spawns(ctx):
    return ctx.spawn([child("alone")]) if ctx.stage == 0 else "done"


async def fails(ctx):
    raise RuntimeError("broken on purpose")


NEEDS = {
    "a task": (completes, tables.task, Status.COMPLETED),
    "a task that spawns": (spawns, tables.task, Status.COMPLETED),
    "a cron task that a failure pauses": (fails, tables.cron_task, Status.PERMANENTLY_FAILED),
}


@pytest.mark.parametrize(("handler", "table", "status"), NEEDS.values(), ids=NEEDS)
def test_a_result_waits_for_what_others_hold_and_then_is_settled_once(workplace, handler, table, status):
    gate = Gate()

    async def ticking(ctx, payload):
        await gate.passed()
        return await handler(ctx)

    app = serving(ticking=ticking, alone=echo)
    app.sync(workplace.database)
    workplace.database.call(put_cron, CronDeclaration("often", "ticking", "* * * * * *", options=Options(max_attempts=1)))
    worker = workplace.start(app)
    gate.reached()
    (task_id,) = [task.id for task in workplace.client.tasks(type="ticking").items]
    with held(workplace, table):
        gate.open()
        until(lambda: worker._slots.blocked)
        assert workplace.outcome("alone", {"n": 1}).status is Status.COMPLETED
        assert workplace.client.get(task_id).status is Status.RUNNING
    assert workplace.ended(task_id).status is status
    assert len([outcome for outcome in workplace.outcomes(task_id) if outcome != "suspended"]) == 1


def test_a_worker_drains_although_a_result_is_blocked(workplace, monkeypatch):
    monkeypatch.setattr("fibflow_worker.runtime.FLUSH", 0.5)
    gate = Gate()

    async def gated(ctx, payload):
        await gate.passed()

    worker = workplace.start(serving(gated=gated))
    task_id = workplace.client.enqueue("gated")
    gate.reached()
    with held(workplace, tables.task, task_id):
        gate.open()
        until(lambda: worker._slots.blocked)
        workplace.stop(worker)
    workplace.start(serving(gated=gated))
    assert workplace.ended(task_id).attempt == 2
