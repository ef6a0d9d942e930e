"""PostgreSQL on the control machine: pods reach it at its address there, we by a relay on loopback.

It is durable (fsync is on), for what is measured and crashed must be real, and runs as an unprivileged user, for it
refuses to run as root. Its folder is shown to it under /run, for that user may have no way to where it really is.
"""

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from . import network
from .machine import Machine
from .waiting import until

ROLE = "postgres"  # the superuser; who asks from the cluster is trusted
DATA = "/run/postgres"
CLEAN = ("env", "-i", "PATH=/usr/bin:/bin", "LC_ALL=C")  # a caller's PGPORT or PGDATA is none of this server's business
SETTINGS = {
    "listen_addresses": f"127.0.0.1,{network.CONTROL}",
    "unix_socket_directories": DATA,
    "max_connections": "300",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_line_prefix": "%m %p %d ",
}


class Postgres:
    """The server whose files are in `folder`, on that machine."""

    def __init__(self, machine: Machine, folder: Path, programs: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.programs = programs

    def start(self, settings: dict[str, str] | None = None) -> None:
        """Make a fresh server and start it; return when it answers."""
        self.folder.mkdir(parents=True)
        user = _unprivileged()
        os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.machine.show(self.folder, DATA)
        self._as = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *CLEAN)
        options = ("-U", ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        self.machine.run(*self._as, str(self.programs / "initdb"), "-D", f"{DATA}/cluster", *options)
        self._trust_pods()
        self._start(SETTINGS | self._statistics() | (settings or {}))

    def url(self, database: str = "postgres", address: str = network.CONTROL, port: int = network.DATABASE) -> str:
        """The address of a database, by default as pods reach it."""
        return f"postgresql://{ROLE}@{address}:{port}/{database}"

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run statements as the superuser; rows come back as lines, columns parted by bars."""
        client = (*CLEAN, str(self.programs / "psql"), "-h", "127.0.0.1", "-U", ROLE, "-d", database)
        return self.machine.run(*client, "-v", "ON_ERROR_STOP=1", "-qAtX", text=text).strip()

    def stop(self) -> None:
        """Stop it in good order: open transactions are rolled back, connections are ended."""
        self.machine.stop("postgres", signal.SIGINT)

    def crash(self) -> None:
        """Stop it as a failure would: the next start recovers from the log."""
        self.machine.stop("postgres", signal.SIGQUIT)

    def restart(self) -> None:
        """Start it again after a stop or a crash; return when it answers."""
        self.machine.restart("postgres")
        self._wait_until_it_answers()

    def _start(self, settings: dict[str, str]) -> None:
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.machine.start("postgres", *self._as, str(self.programs / "postgres"), "-D", f"{DATA}/cluster", *options)
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        until(self._answers, 30, "PostgreSQL answers")

    def _answers(self) -> bool:
        probe = self.machine.inside(*CLEAN, str(self.programs / "pg_isready"), "-h", network.CONTROL)
        return subprocess.run(probe, capture_output=True).returncode == 0

    def _trust_pods(self) -> None:
        with (self.folder / "cluster/pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.0.0.0/8 trust\n")

    def _statistics(self) -> dict[str, str]:
        """Statement statistics, where the server has that library: it must be loaded at the start."""
        found = any(self.programs.parent.rglob("pg_stat_statements.so"))
        return {"shared_preload_libraries": "pg_stat_statements"} if found else {}


def find() -> Path | None:
    """The folder of a server's programs, the newest that Debian has installed, else what is on the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    found = debian[-1] if debian else Path(on_path).resolve() if on_path else None
    return found.parent if found else None


def _unprivileged() -> pwd.struct_passwd:
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users.get("postgres") or users["nobody"]
