"""The plans of the statements that every task passes through: whatever the planner believes, the way in is an index.

A plan is kept by a connection that prepared it, so one made on an empty table should still be right on a full one. Where the
planner knows better, for a table of a few pages, connections do not keep its plans for longer than a minute.
"""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from fibflow import App, Client, NewTask
from fibflow.store import demand, leases
from fibflow.store.batch import array, integers
from fibflow.store.claim import LOWEST, claim_statement
from fibflow.store.database import Database, Session, write
from fibflow.store.finish import COMPLETE_OWNED
from fibflow.store.tables import task

STATES = {"empty": (0, False), "small": (500, True), "large": (20_000, True), "never analysed": (20_000, False)}


@pytest.fixture(params=STATES)
def filled(request, database):
    """A database whose planner knows what this parameter says."""
    if not database.postgresql:
        pytest.skip("SQLite plans by rules")
    rows, analysed = STATES[request.param]
    database.call(_off)
    app = App()
    app.add("work", lambda ctx, payload: None)
    app.add("other", lambda ctx, payload: None)
    app.sync(database)
    if rows:
        Client(database).enqueue_many([NewTask("work")] * rows)
    if analysed:
        database.call(_analyse)
    database.call(leases.register, pod_id=None, host="h", pid=1, slots=1, lease=30)
    return database


@write
def _off(session: Session) -> None:
    session.connection.execute(sa.text("ALTER TABLE fibflow.task SET (autovacuum_enabled = false)"))


@write
def _analyse(session: Session) -> None:
    session.connection.execute(sa.text("ANALYZE fibflow.task"))


@write
def _plan(session: Session, statement: sa.TextClause, parameters: dict[str, object], generic: bool) -> list[str]:
    mode = "force_generic_plan" if generic else "force_custom_plan"
    session.connection.execute(sa.text(f"SET LOCAL plan_cache_mode = {mode}"))
    found = session.connection.execute(sa.text(f"EXPLAIN (FORMAT JSON) {statement.text}"), parameters).scalar_one()
    return _ways(json.loads(found)[0]["Plan"] if isinstance(found, str) else found[0]["Plan"])


def _ways(plan: dict[str, Any]) -> list[str]:
    """How the plan comes to rows of `task`: by which index, or by a scan of all."""
    index = plan.get("Index Name", "")
    if index in INDEXES:
        here = [index]
    else:
        here = [plan["Node Type"]] if plan.get("Relation Name") == "task" and plan["Node Type"] == "Seq Scan" else []
    return here + [way for part in plan.get("Plans", ()) for way in _ways(part)]


INDEXES = {"task_pkey", *(index.name for index in task.indexes)}


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("batch", [1, 100, 1000])
def test_completing_comes_in_by_the_primary_key(filled, batch, generic):
    ids = list(range(batch, 0, -1))
    given = {"worker": 1, "ids": integers(ids), "fences": integers([1] * batch), "results": array(["{}"] * batch)}
    assert filled.call(_plan, COMPLETE_OWNED, given, generic) == ["task_pkey"]


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_claiming_walks_the_claim_index_and_comes_back_by_the_primary_key(filled, lanes, generic):
    types = list(range(1, lanes + 1))
    given = {"types": integers(types), "rooms": integers([500] * lanes), "lows": integers([LOWEST] * lanes)}
    parameters = {**given, "limit": 500, "worker": 1, "default_timeout": 60}
    ways = sorted(filled.call(_plan, claim_statement(lanes > 1), parameters, generic))
    back = "Seq Scan" if _is_small(filled) else "task_pkey"
    assert ways == sorted(["task_claim"] * lanes + [back])


def _is_small(database: Database) -> bool:
    return Client(database).tasks(limit=1).total < 1000


def test_what_is_counted_for_a_decision_comes_in_by_an_index_and_stops_at_a_bound(filled, monkeypatch):
    if _is_small(filled):
        pytest.skip("a few pages are read as they lie")
    monkeypatch.setattr(demand, "MOST_SEEN", 1000)
    counts = (demand.ready_counts(sa.true()), demand.due_counts(sa.true()), demand.arrivals(task, 0))
    texts = [str(each.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})) for each in counts]
    ways = [filled.call(_plan, sa.text(text.replace(":", "\\:")), {}, False) for text in texts]
    assert ways == [["task_claim"], ["task_promote"], ["task_pkey"]]
    assert all("LIMIT" in text for text in texts)
