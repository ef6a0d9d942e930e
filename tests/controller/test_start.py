"""The order in which a leader begins: lists, then rows, then what would hold them up: statuses, and the watch."""

import asyncio
from typing import Any

import pytest

from controller.shelf import Shelf
from fibflow_operator import leading
from fibflow_operator.leading import Leading
from fibflow_operator.world import Key, Kind

KEY = Key(Kind.TASK_TYPE, "shop", "one")


async def turns(number: int = 5) -> None:
    """Let whoever can go on go on."""
    for _ in range(number):
        await asyncio.sleep(0)


def begun(shelf: Shelf | None = None) -> Leading:
    nobody: Any = None
    return Leading(nobody, shelf or Shelf("shop"), ["shop"])


@pytest.fixture(autouse=True)
def watches_begin_at_once(monkeypatch):
    monkeypatch.setattr(leading, "WATCH_BEGINS", 0.0)


def test_statuses_wait_while_rows_are_to_be_brought_up_to_date():
    async def story():
        one = begun()
        one.rows.add([KEY])
        waiting = asyncio.ensure_future(one._rows_first())
        await turns()
        assert not waiting.done()
        one.rows.take(1)
        await waiting

    asyncio.run(story())


def test_that_rows_fail_is_told_while_there_are_always_some_to_try_again():
    async def story():
        one = begun()
        one.rows.add([KEY])
        one.syncing.rows_fail = True
        waiting = asyncio.ensure_future(one._rows_first())
        await turns()
        assert waiting.done()

    asyncio.run(story())


def test_statuses_do_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(leading, "ROWS_FIRST", 0.01)

    async def story():
        one = begun()
        one.rows.add([KEY])
        async with asyncio.timeout(20):
            await one._rows_first()

    asyncio.run(story())


def test_the_watch_begins_once_the_rows_of_the_first_list_are_on_their_way():
    async def story():
        one, watched = begun(), list[Leading]()
        one.watch = watched.append
        watching = asyncio.ensure_future(one._begin_to_watch())
        await turns()
        one.rows.add([KEY])
        one.listed.set()
        await turns()
        assert watched == []
        one.rows.take(1)
        await watching
        assert watched == [one]

    asyncio.run(story())


def test_the_watch_begins_where_no_list_ever_comes(monkeypatch):
    monkeypatch.setattr(leading, "LIST_FIRST", 0.01)

    async def story():
        one, watched = begun(), list[Leading]()
        one.watch = watched.append
        async with asyncio.timeout(20):
            await one._begin_to_watch()
        assert watched == [one]

    asyncio.run(story())


def test_what_was_deleted_before_the_watch_began_comes_to_light():
    shelf = Shelf("shop")
    shelf.put(KEY.kind, KEY.name, {})

    async def story():
        one = begun(shelf)
        one.watch = lambda leading: shelf.delete(KEY.kind, KEY.name)
        await one.list()
        one.rows.take(1)
        await one._begin_to_watch()
        assert one.world.is_gone(KEY)

    asyncio.run(story())
