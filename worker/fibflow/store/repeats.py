"""How a verb that did nothing is tried again: after a random while, and only as long as patience lasts.

On PostgreSQL a repeat waits for no lock beyond that, either. What is repeated is decided in database.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from tenacity import retry_if_exception_type, wait_random_exponential

P = ParamSpec("P")
R = TypeVar("R")


class Transient(Exception):
    """A verb that did nothing and may be repeated: a deadlock, a serialization failure, a busy file."""


def until(deadline: float) -> dict[str, Any]:
    """The arguments of a Retrying that begins no attempt after the deadline (monotonic seconds)."""
    return {
        "retry": retry_if_exception_type(Transient),
        "stop": lambda state: time.monotonic() + state.upcoming_sleep >= deadline,
        "wait": wait_random_exponential(0.01, 1),
        "reraise": True,
    }


LIMIT = sa.text(
    "SELECT set_config('lock_timeout', CAST(least(CAST(:left AS int), nullif(CAST(setting AS int), 0)) AS text), true)"
    " FROM pg_settings WHERE name = 'lock_timeout'"
)
"""For this transaction: milliseconds, if the connection's own limit is not shorter."""


def limited(verb: Callable[Concatenate[Any, P], R], deadline: float) -> Callable[Concatenate[Any, P], R]:
    """The verb, as a transaction that waits for no lock beyond the deadline (PostgreSQL)."""

    def repeated(session: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        left = max(1, int((deadline - time.monotonic()) * 1000))
        session.connection.execute(LIMIT, {"left": left})
        return verb(session, *args, **kwargs)

    return repeated
