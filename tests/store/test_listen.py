"""The listener hears what is sent, looks for itself after every connect, and survives the loss of its connection."""

import asyncio
from contextlib import asynccontextmanager, suppress

import psycopg
import sqlalchemy as sa
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from fibflow.store.listen import Listener

PID = b"SELECT pid FROM pg_stat_activity WHERE application_name = 'fibflow listener' AND datname = current_database()"


def sql(url, text, *parameters):
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text, parameters)
        return cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def listening(url, channel="work"):
    """The queue of what a running listener heard."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(Listener(url, channel, heard.put_nowait).run())
    try:
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


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


def test_it_ends_when_it_is_cancelled_and_leaves_no_connection(postgres_url):
    async def story():
        async with listening(postgres_url) as heard:
            await heard.get()

    asyncio.run(story())
    until_empty = Retrying(retry=retry_if_result(bool), wait=wait_fixed(0.01), stop=stop_after_delay(5))
    assert until_empty(sql, postgres_url, PID) == []
