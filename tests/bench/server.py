"""A private PostgreSQL server, as durable as in production, that disappears with the run.

It knows nothing of queues. Everything after `started()` goes through `Server`: create a database, drop it, run SQL;
what the harness asks from the database `postgres` is never counted as a contestant's.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Composed, Identifier

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "jit": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "shared_preload_libraries": "pg_stat_statements",
}


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Create an empty database and return its address."""
        self._execute(SQL("CREATE DATABASE {}").format(Identifier(database)))
        return self.url(database)

    def drop(self, database: str) -> None:
        """Drop a database even if somebody is still connected to it."""
        self._execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(database)))

    def sql(self, text: LiteralString, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement, committed by itself, and return its rows."""
        return self._execute(SQL(text), database)

    def _execute(self, statement: Composed | SQL, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def started() -> Iterator[Server]:
    """A running server in a new directory; both are gone when the block is left."""
    home = Path(tempfile.mkdtemp(prefix="fibflow-bench-"))
    try:
        server = Server(_free_port())
        _initialise(home)
        _control(home, "start", "-w", "-l", str(home / "log"), "-o", _options(home, server.port))
        try:
            server.sql("CREATE EXTENSION pg_stat_statements")
            yield server
        finally:
            _control(home, "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(home)


def _initialise(home: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(home, "postgres", "postgres")
    _run("initdb", "-D", str(home / "cluster"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")


def _control(home: Path, *arguments: str) -> None:
    _run("pg_ctl", "-D", str(home / "cluster"), *arguments)


def _options(home: Path, port: int) -> str:
    settings = SETTINGS | {"port": str(port), "unix_socket_directories": str(home)}
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def _run(program: str, *arguments: str) -> None:
    """PostgreSQL refuses to run as root, so root runs it as the user `postgres`."""
    become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    command = [*become, str(_binaries() / program), *arguments]
    subprocess.run(command, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _binaries() -> Path:
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if not versions:
        raise FileNotFoundError("no PostgreSQL found: neither pg_ctl on the PATH nor /usr/lib/postgresql/*/bin")
    return versions[-1].parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
