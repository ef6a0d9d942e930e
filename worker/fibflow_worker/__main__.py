"""`python -m fibflow_worker module:app`: one worker process."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
import time

import click

from fibflow.app import App
from fibflow.errors import AppImportError, FibflowError
from fibflow.logs import configure
from fibflow.store.database import Database
from fibflow.store.migrate import check_schema
from fibflow_worker.runtime import Worker
from fibflow_worker.serving import serve
from fibflow_worker.settings import Settings


@click.command()
@click.argument("app")
@click.option("--database", envvar="FIBFLOW_DATABASE", default="sqlite:///fibflow.db", show_default=True)
@click.option("--namespace", envvar="FIBFLOW_NAMESPACE", default="default", show_default=True)
@click.option("--pod-id", envvar="FIBFLOW_POD_ID", default=None, help="The pod's name, which a restart keeps.")
@click.option("--slots", default=10, show_default=True, type=click.IntRange(1))
@click.option("--poll-interval", default=1.0, show_default=True, type=click.FloatRange(0.01))
@click.option("--heartbeat-interval", default=5.0, show_default=True, type=click.FloatRange(0.05))
@click.option("--lease", default=30.0, show_default=True, type=click.FloatRange(0.1))
@click.option("--drain", default=30.0, show_default=True, type=click.FloatRange(0))
@click.option("--exit-with-parent", is_flag=True, help="Leave when the process that started this one is gone.")
def main(app: str, database: str, namespace: str, exit_with_parent: bool, **settings: object) -> None:
    """Serve the task types of APP (module:attribute) until SIGTERM."""
    if exit_with_parent:
        threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    configure(os.environ.get("FIBFLOW_LOG_LEVEL", "INFO"))
    try:
        place = Database(database, namespace=namespace)
        check_schema(place)
        asyncio.run(serve(Worker(load(app), place, Settings(**settings))))  # type: ignore[arg-type]
    except FibflowError as error:
        click.echo(f"fibflow worker: {error}", err=True)
        sys.exit(2)
    os._exit(0)  # a handler in a thread that never returns must not hold the process


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def load(target: str) -> App:
    """The App that `module:attribute` names. Raises AppImportError."""
    module, _, attribute = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute or "app")
    except Exception as error:
        raise AppImportError(f"app: {target!r} does not import: {type(error).__name__}: {error}") from error
    if not isinstance(found, App):
        raise AppImportError(f"app: {target!r} is not a fibflow.App")
    return found


if __name__ == "__main__":
    main()
