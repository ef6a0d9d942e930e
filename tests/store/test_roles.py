"""The roles that docs/database.md makes: the owner migrates, operators and workers work, the reader only reads."""

import re
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from fibflow import App, Client
from fibflow.errors import DatabaseError
from fibflow.store import leases
from fibflow.store.claim import Lane, claim
from fibflow.store.database import Database
from fibflow.store.health import database_health
from fibflow.store.installation import take_lead
from fibflow.store.migrate import migrate
from fibflow.store.rights import check_rights
from fibflow.store.schema import check_schema

PAGE = Path(__file__).parents[2] / "docs" / "database.md"
ROLES = ("fibflow_owner", "fibflow_operator", "fibflow_worker", "fibflow_reader")


@pytest.fixture
def databases(postgres_empty_url):
    """The database as each of the roles sees it, migrated by their owner."""
    (statements,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with psycopg.connect(postgres_empty_url, autocommit=True) as connection:
        connection.execute(statements)
    url = sa.make_url(postgres_empty_url)
    opened = {role: Database(url.set(username=role).render_as_string(hide_password=False)) for role in ROLES}
    migrate(opened["fibflow_owner"])
    yield opened
    for database in opened.values():
        database.close()
    with psycopg.connect(postgres_empty_url, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"DROP OWNED BY {role} CASCADE")
            connection.execute(f"DROP ROLE {role}")


def test_operators_lead_and_workers_work_without_owning_anything(databases):
    operator, worker = databases["fibflow_operator"], databases["fibflow_worker"]
    check_schema(operator)
    assert operator.call(take_lead, "ns/release", "me", 0).epoch == 1
    assert operator.call(database_health).claim_by_index
    app = App()
    app.add("work", lambda ctx, payload: None)
    app.sync(worker)
    task_id = Client(worker).enqueue("work")
    worker_id = worker.call(leases.register, pod_id=None, host="h", pid=1, slots=1, lease=30)
    (kind,) = Client(worker).types()
    assert [task.id for task in worker.call(claim, worker_id, [Lane(kind.id, 1)], 1)] == [task_id]


def _address(databases, role):
    return databases[role].url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.mark.parametrize("role", ["fibflow_owner", "fibflow_operator", "fibflow_worker"])
def test_who_may_work_is_told_so_before_it_starts(databases, role):
    check_rights(_address(databases, role))


def test_who_may_not_is_told_what_is_missing(databases, postgres_empty_url):
    with pytest.raises(DatabaseError, match=r"'fibflow_reader' lacks INSERT of the table attempt; docs/database.md"):
        check_rights(_address(databases, "fibflow_reader"))
    with psycopg.connect(postgres_empty_url, autocommit=True) as connection:
        connection.execute("REVOKE USAGE ON SCHEMA fibflow FROM fibflow_reader")
    with pytest.raises(DatabaseError, match="'fibflow_reader' lacks USAGE of the schema fibflow"):
        check_rights(_address(databases, "fibflow_reader"))


def test_who_may_not_call_the_functions_of_the_schema_is_told_so(databases, postgres_empty_url):
    with psycopg.connect(postgres_empty_url, autocommit=True) as connection:
        connection.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA fibflow FROM PUBLIC, fibflow_worker")
    check_rights(_address(databases, "fibflow_operator"))
    with pytest.raises(DatabaseError, match=r"'fibflow_worker' lacks EXECUTE of the function fibflow_now; docs/database.md"):
        check_rights(_address(databases, "fibflow_worker"))


@pytest.mark.parametrize("role", ["fibflow_operator", "fibflow_worker", "fibflow_reader"])
def test_only_the_owner_changes_the_schema(databases, role):
    with pytest.raises(sa.exc.ProgrammingError, match="must be owner"), databases[role].engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE fibflow.task"))


def test_the_reader_reads_and_writes_nothing(databases):
    reader = Client(databases["fibflow_reader"])
    assert reader.tasks().total == 0
    app = App()
    app.add("work", lambda ctx, payload: None)
    with pytest.raises(DatabaseError, match="permission denied"):
        app.sync(databases["fibflow_reader"])
