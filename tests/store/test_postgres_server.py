"""The private server that the other tests stand on: it starts, copies databases, comes back, and leaves nothing."""

import psycopg
import psycopg.errors
import pytest

from postgres_server import Server


def _rows(url: str, text: bytes) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else []


def test_a_database_copies_its_template_and_nothing_flows_back(postgres_server):
    postgres_server.create("original")
    postgres_server.sql("CREATE TABLE number AS SELECT 1 AS n", "original")
    copy = postgres_server.create("copy", template="original")

    assert _rows(copy, b"SELECT n FROM number") == [(1,)]
    _rows(copy, b"DELETE FROM number")
    assert postgres_server.sql("SELECT n FROM number", "original") == [(1,)]


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_gets_a_database_of_its_own(postgres_url, postgres_empty_url, turn):
    for url in (postgres_url, postgres_empty_url):
        _rows(url, b"CREATE TABLE public.only_here ()")


def test_an_empty_database_has_no_tables(postgres_empty_url):
    ours = b"SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    assert _rows(postgres_empty_url, ours) == [(0,)]


def test_waiting_for_a_lock_ends_with_an_error(postgres_url):
    assert _rows(postgres_url, b"SHOW lock_timeout") == [("2s",)]


def test_a_database_is_dropped_although_somebody_is_connected(postgres_server):
    with psycopg.connect(postgres_server.create("busy")) as connection:
        postgres_server.drop("busy")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_what_was_committed_survives_a_restart_and_a_crash():
    with Server({"work_mem": "5MB"}) as server:
        url = server.create("kept")
        _rows(url, b"CREATE TABLE number AS SELECT 1 AS n")
        server.restart()
        assert _rows(url, b"SELECT n FROM number") == [(1,)]

        server.crash()
        with pytest.raises(psycopg.OperationalError):
            _rows(url, b"SELECT 1")
        server.start()
        assert _rows(url, b"SELECT n FROM number") == [(1,)]
        assert server.sql("SHOW work_mem") == [("5MB",)]
        assert server.sql("SHOW fsync") == [("on",)]
    assert not server.directory.exists()
    with pytest.raises(psycopg.OperationalError):
        _rows(url, b"SELECT 1")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing():
    server = Server({"max_connections": "none"})
    with pytest.raises(RuntimeError, match="max_connections"), server:
        pass
    assert not server.directory.exists()
