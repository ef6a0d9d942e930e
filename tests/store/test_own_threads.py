"""Calls that need a thread have threads of their own: handlers may fill the event loop's."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest
import sqlalchemy as sa

from fibflow.store.address import parse_url
from fibflow.store.database import Database, Session
from fibflow.store.opening import opened
from fibflow.store.psycopg_connections import _addresses

ASKED_BY: ContextVar[str] = ContextVar("asked_by")


@pytest.fixture(params=["own", "borrowed"])
def threaded(request, database_url):
    """A database whose awaited calls run in threads."""
    if request.param == "borrowed":
        engine = sa.create_engine(parse_url(database_url))
        yield opened(engine)
        engine.dispose()
    elif database_url.startswith("sqlite"):
        yield Database(database_url)
    else:
        pytest.skip("awaited calls over PostgreSQL's own connections need no thread once they are made")


def test_handlers_that_fill_the_loops_threads_hold_no_call_up(threaded):
    assert asyncio.run(asked_while_handlers_hold_the_loops_threads(threaded)) > 0


def test_nor_do_they_hold_up_a_connection_to_a_server_by_its_name(postgres_url):
    named = Database(postgres_url.replace("127.0.0.1", "localhost"))
    assert asyncio.run(asked_while_handlers_hold_the_loops_threads(named)) > 0


async def asked_while_handlers_hold_the_loops_threads(database):
    released = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    handler = loop.run_in_executor(None, released.wait)
    try:
        return await asyncio.wait_for(database.run(Session.now), 10)
    finally:
        released.set()
        await handler
        await database.aclose()


ADDRESSES = {
    "two servers": (
        {"host": "127.0.0.1,127.0.0.2", "port": "1,2"},
        {"host": "127.0.0.1,127.0.0.2", "port": "1,2", "hostaddr": "127.0.0.1,127.0.0.2"},
    ),
    "a socket": ({"host": "/run/postgresql", "port": 5432}, {"host": "/run/postgresql", "port": "5432"}),
    "one of each": ({"host": "127.0.0.1,/run/postgresql"}, {"host": "127.0.0.1,/run/postgresql"}),
    "none": ({"dbname": "fibflow"}, {}),
}


@pytest.mark.parametrize(("given", "found"), ADDRESSES.values(), ids=ADDRESSES)
def test_addresses_are_told_where_every_server_has_one(given, found):
    assert _addresses(given) == found


def test_closing_leaves_no_thread(threaded):
    used = []

    def where(session):
        used.append(threading.current_thread())

    async def use():
        await threaded.run(where)
        await threaded.aclose()

    asyncio.run(use())
    (thread,) = used
    thread.join(10)
    assert not thread.is_alive()


def test_a_call_keeps_the_context_of_who_awaits_it(threaded):
    async def ask():
        ASKED_BY.set("a test")
        try:
            return await threaded.run(lambda session: ASKED_BY.get(None))
        finally:
            await threaded.aclose()

    assert asyncio.run(ask()) == "a test"


def test_a_call_that_is_not_to_be_repeated_uses_the_same_connections(threaded):
    async def ask():
        try:
            return await threaded.once(Session.now)
        finally:
            await threaded.aclose()

    assert asyncio.run(ask()) > 0
    assert "async_engine" not in vars(threaded)
