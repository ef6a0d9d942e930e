"""PostgreSQL for the tests: one server a session, one database a test.

A database is a copy of a template that was migrated once, so that a test pays for a file copy and not for migrations.
Every connection has a lock_timeout of two seconds: a test that would wait for a lock for ever fails and names the
statement. The session's server is never crashed, so it waits for no disk, and where there is memory to spare its files are
there: what is left to fail or to be slow is ours.
How the server runs is the story of postgres_server.py.
"""

import importlib
import importlib.util
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import Server

SETTINGS = {"lock_timeout": "2s", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
SMALL = {"max_wal_size": "256MB", "min_wal_size": "64MB"}
IN_MEMORY, ROOM = Path("/dev/shm"), 4 << 30
"""A file system in memory, and the bytes that must be free in it."""
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The session's own server; a test that stops or crashes it starts a `Server()` of its own instead."""
    with Server(SETTINGS | SMALL, IN_MEMORY if _has_room() else None) as server:
        yield server


def _has_room() -> bool:
    return IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOM


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Server) -> str:
    """The name of a migrated database that nobody connects to."""
    name = "fibflow_template"
    migrate(postgres_server.create(name))
    return name


@pytest.fixture
def postgres_url(postgres_server: Server, postgres_template: str) -> Iterator[str]:
    """The address of a fresh migrated database."""
    yield from _database(postgres_server, postgres_template)


@pytest.fixture
def postgres_empty_url(postgres_server: Server) -> Iterator[str]:
    """The address of a fresh database with nothing in it, for tests of the migrations themselves."""
    yield from _database(postgres_server, None)


def migrate(url: str) -> None:
    """Bring a database to the newest schema; a tree without migrations has none to bring."""
    # Only the absence of the module counts as that: an error inside it is an error of the tests.
    if importlib.util.find_spec("fibflow.store.migrate") is not None:
        importlib.import_module("fibflow.store.migrate").migrate(url)


def _database(server: Server, template: str | None) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    yield server.create(name, template)
    server.drop(name)
