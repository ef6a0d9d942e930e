"""A database's address: what a person writes for it, and what of it may be shown. Nothing is connected here."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchModuleError

from fibflow.errors import InvalidInput


def parse_url(url: str) -> sa.URL:
    """A database URL, with psycopg as PostgreSQL's driver. Raises InvalidInput."""
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
        url.encode()
    except (sa.exc.ArgumentError, NoSuchModuleError, ValueError) as error:  # a port that is no number, half a character
        raise InvalidInput("database", masked(url), f"is not a database URL; {WAY_OUT}") from error
    if backend == "postgresql":
        if find_spec("psycopg") is None:
            raise InvalidInput("database", masked(url), "needs PostgreSQL's driver; pip install 'fibflow[postgres]'")
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    raise InvalidInput("database", masked(url), f"is of a kind that is not supported; {WAY_OUT}")


def masked(url: str) -> str:
    """What a person wrote for a URL, without what may be a password."""
    return SECRET.sub(r"\1=***", re.sub(r"//.*@", "//***@", url))


SECRET = re.compile(r"(\w*password\w*)=[^&]*", re.IGNORECASE)
"""An option of a URL that holds a password."""


WAY_OUT = "write sqlite:///FILE or postgresql://USER@HOST/NAME"


def shown(url: sa.URL) -> str:
    """A URL without its password."""
    told = url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)
    return SECRET.sub(r"\1=***", told)


def sqlite_path(url: sa.URL) -> Path | None:
    """The file of a SQLite database; None in memory."""
    return Path(url.database) if url.database and url.database != ":memory:" else None
