"""A private PostgreSQL server that lives as long as a `with` block: for the tests, the benchmark and the fault runs.

It listens on loopback only, on a free port, with its files in a temporary directory that goes away with it. It is
durable (fsync is on), for what we measure and what we crash must be real; everything else is small. PostgreSQL refuses
to run as root, so as root its programs run as an unprivileged user who owns that directory. It knows nothing of
fibflow: the tests' databases are made in fix_postgres.py, and the programs are found by tools/postgres.py.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psycopg
import tenacity
from psycopg.sql import SQL, Composed, Identifier

ROLE = "fibflow"  # the superuser; loopback connections are trusted, whoever asks
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "fsync": "on",
    "timezone": "UTC",
    "log_line_prefix": "%m %p %d ",
}
FINDER = Path(__file__).parents[1] / "tools" / "postgres.py"


class Server:
    """`with Server() as server:` starts it, and stops it whatever happens.

    `settings` are parameters as in postgresql.conf and win over ours. `parent` is where its directory is made, if not
    where temporary files are.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, parent: Path | None = None) -> None:
        self.programs = _find_programs()
        self.directory = Path(tempfile.mkdtemp(prefix="fibflow-postgres-", dir=parent))
        self.log = self.directory / "server.log"
        self.port = 0
        self._cluster = str(self.directory / "cluster")
        self._settings = SETTINGS | _statistics(self.programs) | dict(settings or {})
        self._identity = _unprivileged(self.directory)
        self._postmaster: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self._start_on_free_port()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_failure: object) -> None:
        self._remove()

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, template: str | None = None) -> str:
        """Create a database, as a copy of another if that is named, and return its address."""
        statement = SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(statement.format(Identifier(database), Identifier(template or "template1")))
        return self.url(database)

    def drop(self, database: str) -> None:
        """Drop a database, and end the connections that are still open to it."""
        self._execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))

    def sql(self, text: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement in autocommit and return its rows."""
        return self._execute(text.encode(), database)

    def start(self) -> None:
        """Start it again on its port, after a stop or a crash; return when it answers.

        Call it from a thread that stays: the server dies with the thread that started it.
        """
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [*_dying_with_us(), self._program("postgres"), "-D", self._cluster, "-p", str(self.port), *options]
        with self.log.open("ab") as log:
            self._postmaster = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self._surroundings())
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it in good order: open transactions are rolled back, connections are ended."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Stop it in good order and start it on the same port."""
        self.stop()
        self.start()

    def crash(self) -> None:
        """Stop it as a failure would: nothing is written any more, the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def _initialise(self) -> None:
        options = ["-U", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = [self._program("initdb"), "-D", self._cluster, *options]
        with self.log.open("wb") as log:
            done = subprocess.run(command, stdout=log, stderr=log, **self._surroundings())
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{self.log.read_text()}")

    def _start_on_free_port(self) -> None:
        # Between our look and the server's bind somebody else may take the port; a second look finds another.
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_message(match=r"(?s).*Address already in use"),
            stop=tenacity.stop_after_attempt(3),
            reraise=True,
        )
        for attempt in attempts:
            with attempt:
                self.port = _free_port()
                self.start()

    def _wait_until_it_answers(self) -> None:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(psycopg.OperationalError),
            wait=tenacity.wait_fixed(0.02),
            stop=tenacity.stop_after_delay(60),
            reraise=True,
        )
        attempts(self._answer)

    def _answer(self) -> None:
        if self._postmaster is None or self._postmaster.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()[-4000:]}")
        self.sql("SELECT 1")

    def _end(self, how: signal.Signals) -> None:
        postmaster, self._postmaster = self._postmaster, None
        if postmaster is None:
            return
        postmaster.send_signal(how)
        try:
            postmaster.wait(30)
        except subprocess.TimeoutExpired:
            postmaster.kill()
            postmaster.wait()
            raise

    def _remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _execute(self, statement: Composed | bytes, database: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _program(self, name: str) -> str:
        return str(self.programs / name)

    def _surroundings(self) -> dict[str, Any]:
        """What every program of the server is started with; a caller's PGDATA or PGHOST must not reach it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        place = {"cwd": self.directory, "stdin": subprocess.DEVNULL, "env": environment | {"LC_ALL": "C"}}
        return place | self._identity


def _find_programs() -> Path:
    found = subprocess.run([sys.executable, FINDER, "--find"], capture_output=True, text=True)
    if found.returncode != 0:
        raise RuntimeError(f"{found.stderr.strip()} `make test` does it, where it may.")
    return Path(found.stdout.strip())


def _statistics(programs: Path) -> dict[str, str]:
    """Statement statistics, where the server has that library: it must be loaded at the start."""
    places = ("lib", "lib/postgresql", "lib/pgsql", "lib64/pgsql")
    has_library = any((programs.parent / place / "pg_stat_statements.so").exists() for place in places)
    return {"shared_preload_libraries": "pg_stat_statements"} if has_library else {}


def _unprivileged(directory: Path) -> dict[str, Any]:
    """As root, give the directory to a user who is not, and say how to start a program as that user."""
    if os.geteuid() != 0:
        return {}
    names = {user.pw_name: user for user in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    os.chown(directory, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _dying_with_us() -> list[str]:
    """The kernel stops the server should we be killed before we can stop it (Linux)."""
    return ["setpriv", "--pdeathsig", "QUIT", "--"] if shutil.which("setpriv") else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
