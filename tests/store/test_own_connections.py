"""A lease is renewed over a connection of its own, whoever made the engine and however busy it is."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from fibflow.store.address import parse_url
from fibflow.store.database import Session
from fibflow.store.opening import opened


@pytest.fixture
def busy(postgres_url):
    """An engine of one connection, which its maker uses."""
    engine = sa.create_engine(parse_url(postgres_url), pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect():
        yield engine
    engine.dispose()


def test_a_borrowed_engine_that_is_busy_keeps_no_heartbeat_waiting(busy):
    apart = opened(busy).apart(patience=1, pool_size=1)
    assert apart.call(Session.now) > 0
    apart.close()


def test_closing_it_leaves_the_borrowed_engine_open(busy):
    apart = opened(busy).apart(patience=1, pool_size=1)
    apart.call(Session.now)
    apart.close()
    assert busy.pool.checkedout() == 1


def test_beside_an_async_engine_it_is_one_for_threads(postgres_url):
    borrowed = opened(create_async_engine(parse_url(postgres_url)))
    apart = borrowed.apart(patience=1, pool_size=1)
    assert apart.call(Session.now) > 0
    assert "engine" not in vars(borrowed)
    apart.close()
