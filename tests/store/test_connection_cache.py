"""Connections that are kept between single statements: which are lent again, and which go back to the pool."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import sqlalchemy as sa
from pytest import MonkeyPatch

from fibflow.client import Client
from fibflow.errors import DatabaseUnavailable
from fibflow.store.connection_cache import ConnectionCache
from fibflow.store.database import Database, Session, read

BACKEND = sa.text("SELECT pg_backend_pid()")


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(Database(postgres_url).url, isolation_level="AUTOCOMMIT", pool_size=2)
    yield made
    made.dispose()


@pytest.fixture
def cache(engine: sa.Engine) -> Iterator[ConnectionCache]:
    made = ConnectionCache(engine, 4)
    yield made
    made.dispose()


@pytest.fixture
def other(postgres_url: str) -> Iterator[Database]:
    made = Database(postgres_url)
    yield made
    made.close()


def test_one_connection_serves_one_block_after_another_and_never_goes_back(cache: ConnectionCache, engine: sa.Engine) -> None:
    with cache.connect() as first:
        pass
    assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    with cache.connect() as second:
        assert second is first


def test_two_blocks_at_once_have_a_connection_each_and_the_last_back_is_lent_first(cache: ConnectionCache) -> None:
    with cache.connect() as outer, cache.connect() as inner:
        assert inner is not outer
    with cache.connect() as again:
        assert again is outer


def test_a_connection_whose_block_failed_goes_back_to_the_pool(cache: ConnectionCache, engine: sa.Engine) -> None:
    with pytest.raises(RuntimeError), cache.connect():
        raise RuntimeError
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_connection_that_is_too_old_goes_back_to_the_pool(cache: ConnectionCache, engine: sa.Engine) -> None:
    cache.longest = 0
    with cache.connect() as first:
        pass
    with cache.connect() as second:
        assert second is not first
        assert first.closed
        assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]


def test_who_waits_for_the_pool_gets_the_connection_that_comes_back(postgres_url: str, monkeypatch: MonkeyPatch) -> None:
    engine = sa.create_engine(Database(postgres_url).url, pool_size=1, max_overflow=0, pool_timeout=20)
    cache, asked, connect = ConnectionCache(engine, 4), Event(), engine.connect

    def connect_telling() -> sa.Connection:
        asked.set()
        return connect()

    with ThreadPoolExecutor(1) as other:
        with cache.connect() as first:
            monkeypatch.setattr(engine, "connect", connect_telling)
            waiting = other.submit(cache.connect)
            assert asked.wait(20)
        with waiting.result() as second:
            assert first.closed
            assert not second.closed
    cache.dispose()


def test_no_more_are_kept_than_asked_for(engine: sa.Engine) -> None:
    cache = ConnectionCache(engine, 1)
    with cache.connect() as outer, cache.connect() as inner:
        pass
    assert outer.closed
    assert not inner.closed
    cache.dispose()


def test_after_one_was_lost_no_other_of_its_time_is_lent(cache: ConnectionCache) -> None:
    with cache.connect() as outer, cache.connect() as inner:
        backends = {each.execute(BACKEND).scalar_one() for each in (outer, inner)}
    with pytest.raises(RuntimeError), cache.connect() as lost:
        lost.invalidate()
        raise RuntimeError
    with cache.connect() as next_:
        assert next_.execute(BACKEND).scalar_one() not in backends


def test_what_comes_back_after_the_end_is_closed(cache: ConnectionCache) -> None:
    with cache.connect() as connection:
        cache.dispose()
    assert connection.closed


def test_what_waits_is_closed_in_the_end(cache: ConnectionCache, engine: sa.Engine) -> None:
    with cache.connect() as connection:
        pass
    cache.dispose()
    assert connection.closed
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_client_keeps_its_connection_and_has_a_new_one_after_that_was_cut(postgres_url: str, other: Database) -> None:
    with Client(postgres_url) as client:
        before = client.database.call(_backend)
        assert client.database.call(_backend) == before
        other.call(_end, before)
        with pytest.raises(DatabaseUnavailable):
            client.database.call(_backend)
        assert client.database.call(_backend) != before


def test_a_cursor_is_used_again_unless_it_holds_many_rows(other: Database) -> None:
    kept = {rows: other.call(_cursor_after, rows) for rows in (0, 1, 2)}
    assert kept == {0: True, 1: True, 2: False}


@read
def _backend(session: Session) -> int:
    return int(session.connection.execute(BACKEND).scalar_one())


@read
def _end(session: Session, backend: int) -> None:
    session.connection.execute(sa.select(sa.func.pg_terminate_backend(backend, 10_000)))


@read
def _cursor_after(session: Session, rows: int) -> bool:
    """Whether the cursor of a statement with so many rows serves the next one."""
    driver = session.connection.connection
    session.fetch(SERIES, {"rows": rows})
    return driver.info.get("cursor") is not None


SERIES = sa.select(sa.func.generate_series(1, sa.bindparam("rows", type_=sa.Integer)))
