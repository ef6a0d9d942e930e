"""Several operators: one leads, another follows, and what the first one still wants to write is refused."""

import signal
import time

import psycopg

from cluster.waiting import until
from e2e.figures import record
from e2e.planes import FULL, cron_task, task_type
from fibflow.store.database import Database
from fibflow.store.installation import Installation, installed
from fibflow.store.migrate import migrate

STOPPED = 60.0 if FULL else 13.0
"""Seconds for which a leader is stopped; longer than its Lease."""


def installation(plane) -> Installation:
    database = Database(plane.url)
    try:
        found = database.call(installed)
    finally:
        database.close()
    assert found is not None
    return found


def test_when_the_leader_is_killed_another_leads_and_syncs(plane):
    first = plane.start()
    plane.wait_log("lead_taken")
    plane.start()
    plane.apply(task_type("before"))
    plane.wait_condition("TaskType", "before", status="True")
    lead = installation(plane).lead
    first.end(signal.SIGKILL)
    killed = time.monotonic()
    plane.apply(task_type("after"))
    plane.wait_sql(1, "SELECT count(*) FROM fibflow.task_type WHERE resource = 'after'", seconds=40)
    took = time.monotonic() - killed
    after = installation(plane).lead
    assert (after.epoch > lead.epoch, after.holder.startswith("operator-2_")) == (True, True)
    assert record("K4", "kill -9 of the leader to the next one's first row", [took], 15), took


def test_a_leader_that_ends_in_good_order_lets_another_lead_at_once(plane):
    first = plane.start()
    plane.wait_log("lead_taken")
    plane.start()
    first.end(signal.SIGTERM)
    plane.wait_log("lead_taken", number=2, seconds=8)


def test_a_leader_that_slept_writes_nothing_any_more(plane):
    sleeper = plane.start()
    plane.apply(task_type("work", timeoutSeconds=1))
    plane.wait_condition("TaskType", "work", status="True")
    plane.start()
    sleeper.send(signal.SIGSTOP)
    stopped = time.monotonic()
    plane.apply(task_type("work", timeoutSeconds=2), cron_task("late"))
    plane.wait_sql(2_000_000, "SELECT timeout FROM fibflow.task_type WHERE resource = 'work'", seconds=40)
    until(lambda: time.monotonic() - stopped > STOPPED, STOPPED + 5, "it has slept")
    lead = installation(plane).lead
    # What the sleeper has seen is older than what it will read now: a change and a deletion wait for it.
    plane.apply(task_type("work", timeoutSeconds=3))
    plane.wait_sql(3_000_000, "SELECT timeout FROM fibflow.task_type WHERE resource = 'work'")
    written = plane.rows_written()
    sleeper.send(signal.SIGCONT)
    plane.wait_log("leading_no_more", number=1)
    plane.apply(task_type("work", timeoutSeconds=4))
    plane.wait_sql(4_000_000, "SELECT timeout FROM fibflow.task_type WHERE resource = 'work'")
    now = installation(plane)
    assert now.lead == lead and now.lead.holder.startswith("operator-2_")
    assert plane.rows_written() - written <= 3 + now.refused  # our change of a row, and refused writes that were counted


def test_what_a_leader_was_writing_when_it_was_stopped_holds_nobody_up_and_is_undone(plane):
    sleeper = plane.start()
    plane.apply(task_type("work", timeoutSeconds=1))
    plane.wait_condition("TaskType", "work", status="True")
    plane.start()
    with psycopg.connect(plane.url) as holding:
        holding.execute("SELECT 1 FROM fibflow.task_type WHERE resource = 'work' FOR UPDATE")
        plane.apply(task_type("work", timeoutSeconds=2))
        plane.wait_sql(True, WAITS)
        sleeper.send(signal.SIGSTOP)
        holding.rollback()  # the server goes on with the statement, and waits for the word to commit
    plane.apply(task_type("work", timeoutSeconds=3))
    plane.wait_sql(3_000_000, TIMEOUT, seconds=40)
    lead = installation(plane).lead
    sleeper.send(signal.SIGCONT)
    plane.wait_log("leading_no_more", number=1)
    assert plane.sql(TIMEOUT) == [(3_000_000,)]
    assert installation(plane).lead == lead and lead.holder.startswith("operator-2_")


TIMEOUT = "SELECT timeout FROM fibflow.task_type WHERE resource = 'work'"
WAITS = """
    SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
    AND query LIKE '%%task_type%%'
"""


def test_a_leader_that_slept_while_the_database_was_wiped_writes_nothing_either(plane):
    sleeper = plane.start()
    plane.apply(task_type("work"))
    plane.wait_condition("TaskType", "work", status="True")
    sleeper.send(signal.SIGSTOP)
    wipe(plane)
    plane.start()
    plane.wait_sql(1, "SELECT count(*) FROM fibflow.task_type", seconds=40)
    lead = installation(plane).lead
    sleeper.send(signal.SIGCONT)
    plane.apply(cron_task("later"))
    plane.wait_sql(1, "SELECT count(*) FROM fibflow.cron_task")
    plane.wait_log("leading_no_more", number=1)
    assert installation(plane).lead == lead and lead.holder.startswith("operator-2_")


def test_another_installation_is_refused(plane):
    first = plane.start()
    plane.wait_log("lead_taken")
    other = plane.start(installation="other/fibflow")
    assert other.exit_code() == 2
    assert "serves the installation 'test/fibflow' and not 'other/fibflow'" in plane.logs()
    assert first.running


def test_code_that_the_schema_is_too_new_for_refuses_to_start_and_says_what_to_run(plane):
    plane.sql("UPDATE fibflow.schema_version SET version = '9999', oldest_code = '99.0.0'")
    assert plane.start().exit_code() == 2
    assert "too new for fibflow" in plane.logs() and "install fibflow 99.0.0 or newer" in plane.logs()


def test_a_database_without_tables_is_refused_and_it_says_what_to_run(plane, postgres_empty_url):
    assert plane.start(url=postgres_empty_url).exit_code() == 2
    assert "run `fibflow migrate`" in plane.logs()


def wipe(plane) -> None:
    plane.sql("DROP SCHEMA fibflow CASCADE")
    plane.sql("DROP TABLE IF EXISTS alembic_version")
    migrate(plane.url)
