"""What the database refuses, or cannot do just now: it costs nobody else's result anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from fibflow import NewTask, Outcome, Status, child
from fibflow.errors import DatabaseError, DatabaseUnavailable
from fibflow.store import record, settle
from fibflow.store.database import write
from fibflow_worker import turns
from fix_semantics import Gate, serving


async def echo(ctx, payload):
    return payload


def failing(verb, error, times):
    """A verb that raises the error so often, before it does what it should."""
    left = [error] * times

    @write
    def verb_in_trouble(session, *args):
        if left:
            raise left.pop()
        return verb(session, *args)

    return verb_in_trouble


def test_a_refused_claim_costs_a_good_result_nothing(workplace, monkeypatch):
    monkeypatch.setattr(settle, "settle_and_claim", failing(settle.settle_and_claim, DatabaseError("claims are refused"), 1))
    workplace.start(serving(work=echo))
    done = [workplace.outcome("work", {"n": n}) for n in range(3)]
    assert [(task.status, task.attempt) for task in done] == [(Status.COMPLETED, 1)] * 3


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_after_a_refused_batch_the_worker_claims_at_once(workplace, monkeypatch):
    monkeypatch.setattr(turns, "LOOK_AGAIN", 0)  # no second look later, by which it might be found
    workplace.start(serving(work=echo), slots=1, poll_interval=3600)
    workplace.outcome("work", {"n": 0})
    monkeypatch.setattr(settle, "settle_and_claim", failing(settle.settle_and_claim, DatabaseError("refused"), 1))
    ids = workplace.client.enqueue_many([NewTask("work", {"n": n}) for n in range(3)])
    done = [workplace.ended(id) for id in ids]
    assert [(task.status, task.attempt) for task in done] == [(Status.COMPLETED, 1)] * 3


@pytest.fixture
def spawning(workplace):
    """Starts a worker, and a parent that spawns beside a task that returns, both at the same moment; the two ids."""
    gates = {"parent": Gate(), "plain": Gate()}

    async def parent(ctx, payload):
        if ctx.stage:
            return "children done"
        await gates["parent"].passed()
        return ctx.spawn([child("work")])

    async def plain(ctx, payload):
        await gates["plain"].passed()
        return "plain"

    workplace.start(serving(parent=parent, plain=plain, work=echo))
    ids = [workplace.client.enqueue(type) for type in gates]
    for gate in gates.values():
        gate.reached()

    def go():
        for gate in gates.values():
            gate.open()
        return [workplace.ended(task_id) for task_id in ids]

    return go


def test_a_refused_spawn_fails_its_own_attempt(spawning, monkeypatch):
    monkeypatch.setattr(record, "spawn", failing(record.spawn, DatabaseError("children are refused"), 1))
    parent, plain = spawning()
    assert (parent.status, parent.last_outcome) == (Status.PERMANENTLY_FAILED, Outcome.FAILED)
    assert "children are refused" in parent.error
    assert (plain.status, plain.result) == (Status.COMPLETED, "plain")


def test_a_spawn_that_cannot_be_stored_just_now_is_stored_later(spawning, monkeypatch):
    monkeypatch.setattr(record, "spawn", failing(record.spawn, DatabaseUnavailable("away"), 2))
    parent, plain = spawning()
    assert (parent.result, parent.attempt) == ("children done", 2)
    assert (plain.status, plain.result) == (Status.COMPLETED, "plain")


def test_children_that_no_code_expects_fail_their_parent_alone(spawning, monkeypatch):
    monkeypatch.setattr(record, "spawn", failing(record.spawn, AttributeError("no such option"), 1))
    parent, plain = spawning()
    assert parent.status is Status.PERMANENTLY_FAILED and "no such option" in parent.error
    assert plain.status is Status.COMPLETED


def test_a_worker_that_fails_leaves_although_a_handler_never_returns(tmp_path):
    database = f"sqlite:///{tmp_path}/it.db"
    here = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-m", "fibflow", "--database", database, "migrate"], check=True, capture_output=True)
    ended = subprocess.run(
        [sys.executable, "-m", "fibflow_worker", "failing_app:app", "--database", database, "--drain", "0"],
        cwd=here,
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == 1, ended.stderr
    assert b"worker_failed" in ended.stderr
