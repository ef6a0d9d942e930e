"""The file of a SQLite database, looked at before it is opened, for opening what is not there would make it.

For the programs, which refuse a wrong --database by it. Of PostgreSQL, and of what a database holds, nothing is known here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fibflow.errors import InvalidInput
from fibflow.store.address import parse_url, sqlite_path

MAGIC = b"SQLite format 3\0"
LOG_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83", bytes(4))
"""How a log begins that is beside a file; zeros are what a power cut may leave of one that was never begun."""


def check_file(url: str) -> None:
    """Raise InvalidInput for a SQLite database that is not there, in memory, or no database."""
    file = _file(url)
    if file is not None and not _reached(url, file.exists):
        raise InvalidInput("database", url, "does not exist; run `fibflow migrate` or `fibflow dev`, or see --database")
    check_place(url)


def check_place(url: str) -> None:
    """Raise InvalidInput where no SQLite database is and none can be made."""
    file = _file(url)
    if file is None:
        return
    if not _reached(url, file.parent.is_dir):
        raise InvalidInput("database", url, "is in a folder that does not exist; make the folder, or see --database")
    if _reached(url, file.exists) and not _reached(url, partial(_is_database, file)):
        raise InvalidInput("database", url, "is no SQLite database; name another file with --database")
    if not _reached(url, partial(_has_sound_log, file)):
        raise InvalidInput("database", url, f"is damaged ({file.name}-wal is no log of SQLite's): {RESTORE}")


RESTORE = "restore both files from a copy, or name another with --database"


def _file(url: str) -> Path | None:
    """None for PostgreSQL."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    if parsed.query:
        raise InvalidInput("database", url, "has options behind its ?, of which SQLite takes none; leave them out")
    file = sqlite_path(parsed)
    if file is None:
        raise InvalidInput("database", url, "is in memory, which ends with this program; write sqlite:///FILE")
    return file


def _reached(url: str, asked: Callable[[], bool]) -> bool:
    """What the file system answers. Raises InvalidInput where it refuses to."""
    try:
        return asked()
    except OSError as error:
        raise InvalidInput("database", url, f"cannot be read: {error.strerror}; name another file with --database") from error


def _is_database(file: Path) -> bool:
    """An empty file is one."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) in (b"", MAGIC)


def _has_sound_log(file: Path) -> bool:
    """SQLite takes a log that is none for an empty one, and what was committed to it is gone without a word."""
    real = file.resolve()
    try:
        with real.with_name(f"{real.name}-wal").open("rb") as opened:
            begin = opened.read(len(LOG_MAGIC[0]))
    except FileNotFoundError:  # as when the last one to use it leaves
        return True
    return len(begin) < len(LOG_MAGIC[0]) or begin in LOG_MAGIC
