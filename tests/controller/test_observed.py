"""What the leader tells Prometheus: what the database holds, in few series, and nothing when it leads no more."""

import pytest
import sqlalchemy as sa
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from fibflow import App, Client, NewTask
from fibflow.metrics import OTHER
from fibflow.model import SECOND
from fibflow.store import leases
from fibflow.store.cron import CronDeclaration, put_cron
from fibflow.store.database import Database
from fibflow.store.figures import Queue, Rest, TypeFigures, queues, rest
from fibflow.store.health import claim_by_index, database_health
from fibflow.store.tables import task_type
from fibflow_operator.observed import Observed, PoolSize
from fix_database import move_clock
from scraping import families, samples, value

NOTHING = Rest(now=0, overdue={}, paused={}, workers={})


def _scrape(observed):
    registry = CollectorRegistry()
    registry.register(observed)
    return generate_latest(registry).decode()


@pytest.fixture
def observed(database):
    """What a leader sees of a database with a few tasks in it."""
    app = App()
    app.add("work", lambda ctx, payload: None)
    app.add("idle", lambda ctx, payload: None)
    app.sync(database)
    Client(database).enqueue_many([NewTask("work")] * 3 + [NewTask("work", delay=3600)])
    database.call(put_cron, CronDeclaration("nightly", "idle", "* * * * *"))
    database.call(leases.register, pod_id=None, host="h", pid=1, slots=7, lease=30)
    move_clock(database, 120)
    seen = Observed()
    seen.see(database.call(queues), database.call(rest))
    return seen


def test_queues_cron_tasks_and_workers_are_told_as_the_database_has_them(observed):
    text = _scrape(observed)
    assert value(text, "fibflow_tasks", task_namespace="default", type="work", status="pending") == 4
    assert value(text, "fibflow_tasks", type="idle") == 0
    assert 120 <= value(text, "fibflow_oldest_pending_seconds", type="work") < 180
    assert value(text, "fibflow_oldest_pending_seconds", type="idle") == 0
    assert 60 <= value(text, "fibflow_cron_overdue_seconds", cron="nightly") < 180
    assert value(text, "fibflow_workers", task_namespace="default") == 1
    assert value(text, "fibflow_workers_slots") == 7


@pytest.mark.parametrize("by", ["paused", "suspended"])
def test_what_a_person_holds_back_waits_for_nobody(database, observed, by):
    """It is counted; but nobody is to be woken because it is not claimed."""
    with database.engine.begin() as connection:
        connection.execute(sa.update(task_type).where(task_type.c.name == "work").values({by: True}))
    observed.see(database.call(queues), database.call(rest))
    text = _scrape(observed)
    assert value(text, "fibflow_tasks", type="work", status="pending") == 4
    assert value(text, "fibflow_oldest_pending_seconds", type="work") == 0


def test_ages_go_on_between_two_looks(observed):
    before = value(_scrape(observed), "fibflow_oldest_pending_seconds", type="work")
    observed.seen_at -= 30
    assert value(_scrape(observed), "fibflow_oldest_pending_seconds", type="work") >= before + 30


def test_nothing_is_told_when_the_lead_is_over(observed):
    observed.forget()
    assert families(_scrape(observed)) == set()


def test_ten_thousand_types_are_few_series_and_nothing_is_left_out():
    observed = Observed()
    figures = [TypeFigures(pending=number, running=1, failed=2, oldest_pending=number * SECOND) for number in range(10_000)]
    observed.see([Queue("default", f"type-{n}", None, each) for n, each in enumerate(figures)], NOTHING)
    text = _scrape(observed)
    assert len(samples(text)) <= 1000
    assert value(text, "fibflow_tasks", type="type-9999", status="pending") == 9999
    assert value(text, "fibflow_tasks", type=OTHER, status="pending") == sum(range(9800))
    assert value(text, "fibflow_tasks") == sum(range(10_000)) + 10_000 + 20_000


def test_a_thousand_late_cron_tasks_are_few_series_the_latest_first():
    observed = Observed()
    late = {("default", f"cron-{number}"): number * SECOND for number in range(1000)}
    observed.see([], Rest(now=2000 * SECOND, overdue=late, paused={}, workers={}))
    found = {labels["cron"]: age for name, labels, age in samples(_scrape(observed)) if name == "fibflow_cron_overdue_seconds"}
    assert len(found) == 201
    assert found["cron-0"] == pytest.approx(2000, abs=1)
    assert found[OTHER] == pytest.approx(1800, abs=1)


def test_a_thousand_namespaces_are_few_series_and_one_whose_type_is_told_of_has_its_own():
    observed = Observed()
    places = {f"team-{number}": number for number in range(1000)}
    busy = [Queue("team-999", "work", None, TypeFigures(pending=1))]
    workers = {place: (number, 2 * number) for place, number in places.items()}
    observed.see(busy, Rest(now=0, overdue={}, paused=places, workers=workers))
    text = _scrape(observed)
    assert len(samples(text)) <= 3 * 201 + 4
    for name, each in (("fibflow_cron_paused", 1), ("fibflow_workers", 1), ("fibflow_workers_slots", 2)):
        assert value(text, name, task_namespace="team-999") == 999 * each
        assert value(text, name, task_namespace=OTHER) == sum(range(199, 999)) * each
        assert value(text, name) == sum(range(1000)) * each


def test_a_pool_that_is_gone_has_no_series_and_of_many_those_that_lack_workers_have_their_own():
    observed = Observed()
    observed.pools = [PoolSize("default", f"pool-{number}", 2, 2) for number in range(250)] + [
        PoolSize("default", "short", 3, 1)
    ]
    text = _scrape(observed)
    assert (value(text, "fibflow_operator_wanted_workers"), value(text, "fibflow_operator_ready_workers")) == (503, 501)
    assert value(text, "fibflow_operator_ready_workers", pool="short") == 1
    assert len(samples(text)) == 2 * 201
    observed.pools = []
    assert samples(_scrape(observed)) == []


def test_the_databases_health_is_told_with_the_oldest_transaction(postgres_url):
    database = Database(postgres_url)
    with database.engine.connect() as held:
        held.execute(sa.text("SELECT 1"))
        health = database.call(database_health)
        again = database.call(database_health)
    assert 0 < health.oldest_transaction < again.oldest_transaction
    assert {"task", "task_final", "attempt", "worker"} <= health.tables.keys()
    assert health.tables["task"].bytes > 0
    assert 0 < health.connections < health.most_connections
    observed = Observed()
    observed.health = health
    assert value(_scrape(observed), "fibflow_database_oldest_transaction_seconds") == health.oldest_transaction
    database.close()


def test_a_table_that_is_small_needs_no_index(postgres_url):
    database = Database(postgres_url)
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX fibflow.task_claim"))
    assert database.call(claim_by_index)
    database.close()


def test_a_claim_without_its_index_is_seen(postgres_url):
    database = Database(postgres_url)
    app = App()
    app.add("work", lambda ctx, payload: None)
    app.sync(database)
    Client(database).enqueue_many([NewTask("work")] * 2000)
    assert database.call(claim_by_index)
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX fibflow.task_claim"))
    assert not database.call(claim_by_index)
    database.close()
