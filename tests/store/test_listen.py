"""The listener hears what is sent, looks for itself after every connect, and survives the loss of its connection."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import psycopg
import sqlalchemy as sa
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from fibflow.store.database import Database
from fibflow.store.listen import Listener
from fibflow.store.psycopg_connections import connected

PID = b"SELECT pid FROM pg_stat_activity WHERE application_name = 'fibflow listener' AND datname = current_database()"


def sql(url, text, *parameters):
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text, parameters)
        return cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def listening(url, channel="work"):
    """The queue of what a running listener heard."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    database = Database(url)
    task = asyncio.create_task(Listener(database, channel, heard.put_nowait).run())
    try:
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await database.aclose()


def test_it_hears_its_channel_and_no_other(postgres_url):
    async def story():
        async with listening(postgres_url, 'a "strange" channel') as heard:
            first = await heard.get()
            sql(postgres_url, b"SELECT pg_notify('work', 'not for us')")
            sql(postgres_url, b"SELECT pg_notify('a \"strange\" channel', 'one')")
            return first, await heard.get()

    assert asyncio.run(story()) == ("", "one")


def test_it_connects_as_the_engine_does_with_options_in_the_address(postgres_url):
    address = sa.make_url(f"{postgres_url}?options=-c%20application_name%3Dtold").render_as_string(hide_password=False)

    async def story():
        async with listening(address) as heard:
            return await asyncio.wait_for(heard.get(), 10)

    assert asyncio.run(story()) == ""


def test_it_survives_the_loss_of_its_connection_and_looks_again(postgres_url):
    async def story():
        async with listening(postgres_url) as heard:
            assert await heard.get() == ""
            [(pid,)] = sql(postgres_url, PID)
            sql(postgres_url, b"SELECT pg_terminate_backend(%s)", pid)
            assert await heard.get() == ""
            assert sql(postgres_url, PID) != [(pid,)]
            sql(postgres_url, b"NOTIFY work, 'two'")
            return await heard.get()

    assert asyncio.run(story()) == "two"


def test_what_arrives_during_the_sign_of_life_is_heard(postgres_url, monkeypatch):
    monkeypatch.setattr("fibflow.store.listen.SILENCE", 0.0)

    async def story():
        async with listening(postgres_url) as heard:
            await heard.get()
            for number in range(20):
                await asyncio.to_thread(sql, postgres_url, b"SELECT pg_notify('work', %s)", str(number))
            return [await heard.get() for _ in range(20)]

    assert asyncio.run(story()) == [str(number) for number in range(20)]


def test_it_gives_up_a_server_that_takes_it_in_and_then_is_silent(postgres_url, monkeypatch):
    monkeypatch.setattr("fibflow.store.listen.PATIENCE", 0.5)
    frozen: list[int] = []

    async def freezing(*arguments, **named):
        connection = await connected(*arguments, **named)
        if not frozen:
            frozen.append(connection.info.backend_pid)
            os.kill(frozen[0], signal.SIGSTOP)
        return connection

    monkeypatch.setattr("fibflow.store.listen.connected", freezing)

    async def story():
        async with listening(postgres_url) as heard:
            try:
                return await asyncio.wait_for(heard.get(), 20)
            finally:
                os.kill(frozen[0], signal.SIGCONT)

    assert asyncio.run(story()) == ""


def test_it_looks_a_server_up_although_handlers_hold_the_loops_threads(postgres_url):
    released = threading.Event()

    async def story():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        handler = loop.run_in_executor(None, released.wait)
        try:
            async with listening(postgres_url.replace("127.0.0.1", "localhost")) as heard:
                return await asyncio.wait_for(heard.get(), 10)
        finally:
            released.set()
            await handler

    assert asyncio.run(story()) == ""


def test_it_ends_when_it_is_cancelled_and_leaves_no_connection(postgres_url):
    async def story():
        async with listening(postgres_url) as heard:
            await heard.get()

    asyncio.run(story())
    until_empty = Retrying(retry=retry_if_result(bool), wait=wait_fixed(0.01), stop=stop_after_delay(5))
    assert until_empty(sql, postgres_url, PID) == []
