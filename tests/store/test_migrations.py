"""Migrations: they build what tables/ says, may be repeated and raced, and refuse what they do not know."""

import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from fibflow.errors import DatabaseUnavailable, OtherInstallation, SchemaMismatch
from fibflow.store import migrate as migrations
from fibflow.store import schema
from fibflow.store.database import Database
from fibflow.store.installation import take_lead
from fibflow.store.migrate import migrate
from fibflow.store.schema import check_schema, newest
from fibflow.store.tables import SCHEMA, metadata, schema_version

CONSTRAINTS = """
SELECT c.conrelid::regclass::text, c.contypid::regtype::text, c.conname, pg_get_constraintdef(c.oid)
FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = 'fibflow' ORDER BY 1, 2, 3
"""
INDEXES = """
SELECT i.indrelid::regclass::text, pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'fibflow' ORDER BY 1, 2
"""
COLUMNS = """
SELECT table_name, column_name, ordinal_position, data_type, domain_name, is_nullable, column_default, is_identity
FROM information_schema.columns WHERE table_schema = 'fibflow' ORDER BY 1, 2
"""
FUNCTIONS = """
SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid)
FROM pg_proc p WHERE p.pronamespace = 'fibflow'::regnamespace AND p.proname <> 'fibflow_now' ORDER BY 1
"""
SETTINGS = "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'fibflow'::regnamespace ORDER BY 1"
BOOKKEEPING = "alembic_version"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, tmp_path):
    """A database with nothing in it, once for each kind."""
    is_postgresql = request.param == "postgresql"
    url = request.getfixturevalue("postgres_empty_url") if is_postgresql else f"sqlite:///{tmp_path / 'new.db'}"
    opened = Database(url)
    yield opened
    opened.close()


def _catalog(database):
    """All that a database says of fibflow's tables, in an order that does not depend on how they were made."""
    with database.engine.connect() as connection:
        if database.postgresql:
            queries = (CONSTRAINTS, INDEXES, COLUMNS, FUNCTIONS, SETTINGS)
            rows = [tuple(row) for query in queries for row in connection.exec_driver_sql(query)]
        else:
            rows = list(connection.exec_driver_sql("SELECT name, sql FROM sqlite_master ORDER BY name"))
            rows = [(name, *_clauses(sql)) for name, sql in rows]
    return [row for row in rows if BOOKKEEPING not in str(row[0]) and BOOKKEEPING not in str(row[1:])]


def _clauses(sql):
    """The lines of a CREATE, which SQLite keeps as they were written; a column that was added stands behind another."""
    apart = re.sub(r", (\w+ TEXT)(?=,)", r",\n\1", sql or "")
    return sorted(line.strip().rstrip(",") for line in apart.splitlines() if line.strip())


def _create_all(database):
    with database.engine.begin() as connection:
        if database.postgresql:
            connection.execute(sa.schema.CreateSchema(SCHEMA))
        metadata.create_all(connection)


@pytest.fixture
def declared(empty, tmp_path, request):
    """A database of the same kind whose tables come from tables/."""
    if not empty.postgresql:
        opened = Database(f"sqlite:///{tmp_path / 'declared.db'}")
        yield opened
        opened.close()
        return
    server = request.getfixturevalue("postgres_server")
    opened = Database(server.create("declared"))
    yield opened
    opened.close()
    server.drop("declared")


def test_the_migrations_build_what_the_tables_say(empty, declared):
    migrate(empty)
    _create_all(declared)
    assert _catalog(empty) == _catalog(declared)


def test_alembic_finds_nothing_left_to_migrate(empty):
    migrate(empty)
    # A role called fibflow would otherwise look into the schema of its name first, and alembic would call it None.
    aside = empty.url.update_query_dict({"options": "-c search_path=public"} if empty.postgresql else {})
    looking = Database(aside.render_as_string(hide_password=False))
    with looking.engine.connect() as connection:
        options = {"include_schemas": empty.postgresql, "include_name": _is_ours}
        options["version_table_schema"] = SCHEMA if empty.postgresql else None
        tables = metadata if empty.postgresql else _without_schema()
        assert compare_metadata(MigrationContext.configure(connection, opts=options), tables) == []
    looking.close()


def _without_schema():
    tables = sa.MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.tables.values():
        table.to_metadata(tables, schema=None)  # type: ignore[arg-type]  # None takes the schema away
    return tables


def _is_ours(name, kind, parents):
    return kind != "schema" or name in (None, SCHEMA)


def test_migrating_again_changes_nothing(empty):
    assert migrate(empty) == newest()
    before = _catalog(empty)
    assert migrate(empty) == newest()
    assert _catalog(empty) == before
    check_schema(empty)


def test_two_at_once_both_end_with_the_newest_schema(empty, monkeypatch):
    class Unlocked:
        """As if the two were two processes, up to where alembic itself runs."""

        __enter__ = __exit__ = lambda *_: None

    upgrade, alembic = command.upgrade, migrations.ONE_AT_A_TIME

    def one_upgrade(config, revision):
        with alembic:
            upgrade(config, revision)

    monkeypatch.setattr(migrations, "ONE_AT_A_TIME", Unlocked())
    monkeypatch.setattr(command, "upgrade", one_upgrade)
    with ThreadPoolExecutor(4) as pool:
        urls = [empty.url.set(drivername=empty.url.get_backend_name()).render_as_string(hide_password=False)] * 4
        assert list(pool.map(migrate, urls)) == [newest()] * 4
    check_schema(empty)


def test_a_sqlite_file_is_created(tmp_path):
    file = tmp_path / "deep.db"
    migrate(f"sqlite:///{file}")
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(newest(),)]
    connection.close()


def test_memory_is_migrated_through_the_database_that_holds_it():
    database = Database("sqlite://")
    migrate(database)
    check_schema(database)
    database.close()


def test_a_database_without_tables_says_what_to_run(empty):
    with pytest.raises(SchemaMismatch, match="run `fibflow migrate`"):
        check_schema(empty)


def test_the_names_of_the_files_say_which_migrations_there_are():
    scripts = ScriptDirectory(str(schema.SCRIPTS))
    assert schema.versions() == {script.revision for script in scripts.walk_revisions()}
    assert newest() == scripts.get_current_head()


def test_an_older_schema_says_what_to_run(empty, monkeypatch):
    migrate(empty)
    monkeypatch.setattr(schema, "newest", lambda: "9999")
    with pytest.raises(SchemaMismatch, match=r"older than 9999: run `fibflow migrate`"):
        check_schema(empty)


def _pretend(database, version, oldest_code):
    with database.engine.begin() as connection:
        connection.execute(sa.update(schema_version).values(version=version, oldest_code=oldest_code))


def test_a_schema_that_is_too_new_is_refused(empty):
    migrate(empty)
    _pretend(empty, "9999", "0.10.0")
    for attempt in (check_schema, migrate):
        with pytest.raises(SchemaMismatch, match=r"install fibflow 0\.10\.0 or newer"):
            attempt(empty)


def test_a_newer_schema_that_still_admits_this_code_is_accepted(empty):
    migrate(empty)
    _pretend(empty, "9999", "0.0.9")
    check_schema(empty)
    assert migrate(empty) == "9999"


def test_a_database_that_serves_another_installation_is_left_as_it_is(empty):
    migrate(empty, "first/fibflow")
    empty.call(take_lead, "first/fibflow", "me", 0)
    with empty.engine.begin() as connection:
        connection.execute(sa.update(schema_version).values(version="0000"))
    with pytest.raises(OtherInstallation, match="first/fibflow"):
        migrate(empty, "second/fibflow")


def test_a_migration_waits_for_a_database_that_does_not_answer_yet_but_not_for_ever(monkeypatch):
    answers = iter([DatabaseUnavailable("starting"), DatabaseUnavailable("starting"), "0001"])

    def starting(url, installation):
        if isinstance(answer := next(answers, DatabaseUnavailable("gone")), Exception):
            raise answer
        return answer

    monkeypatch.setattr(migrations, "migrate", starting)
    monkeypatch.setattr(migrations, "A_LITTLE", 0.0)
    assert migrations.migrate_when_up("postgresql://somewhere/else", 60) == "0001"
    with pytest.raises(DatabaseUnavailable, match="gone"):
        migrations.migrate_when_up("postgresql://somewhere/else", 0)
