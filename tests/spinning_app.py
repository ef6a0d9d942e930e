"""Handlers that hold the CPU until a file is there; in a module of their own, for processes must find them."""

import os
from pathlib import Path

from fibflow import AsyncContext, Context


def spin(ctx: Context, begun: str, stop: str) -> None:
    """Spins until the file `stop` is there."""
    _spin(begun, stop)


async def spin_in_the_loop(ctx: AsyncContext, begun: str, stop: str) -> None:
    """The same, without ever letting the event loop go on."""
    _spin(begun, stop)


def _spin(begun: str, stop: str) -> None:
    Path(begun).touch()
    while not os.path.exists(stop):
        pass
