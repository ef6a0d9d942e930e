"""`python -m fibflow_worker module:app`: one worker process."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

import fibflow
import fibflow_worker
from fibflow import encoding
from fibflow.app import App
from fibflow.cli_values import Seconds, Whole, tell
from fibflow.errors import AppImportError, FibflowError, one_line, sentence, shown
from fibflow.logs import LEVELS, Levels, configure, logger
from fibflow.store.database import Database
from fibflow.store.schema import check_schema
from fibflow.store.sqlite_file import check_file
from fibflow_worker import health
from fibflow_worker.runtime import Worker
from fibflow_worker.serving import serve, show
from fibflow_worker.settings import Settings

log = logger(__name__)

LONGEST_CAUSE = 300
option = partial(click.option, show_default=True, show_envvar=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("app", envvar="FIBFLOW_APP", metavar="MODULE:APP")
@option("--database", envvar="FIBFLOW_DATABASE", default="sqlite:///fibflow.db", help="Database URL.")
@option("--namespace", envvar="FIBFLOW_NAMESPACE", default="default", help="Namespace to work in.")
@option("--pod-id", envvar="FIBFLOW_POD_ID", default=None, help="The pod's name, which a restart keeps.")
@option("--pod-uid", envvar="FIBFLOW_POD_UID", default=None, help="The pod's uid, which no other pod has.")
@option("--pool", envvar="FIBFLOW_POOL", default=None, help="Claim the types bound to this WorkerPool; none: the others.")
@option("--unbound", is_flag=True, help="Claim the types that are bound to no pool, too.")
@option("--type", envvar="FIBFLOW_TYPE", default=None, help="Run this task type only, of those that the application has.")
@option("--port", envvar="FIBFLOW_PORT", default=None, type=Whole(0, 65535), help="Serve /livez, /readyz, /metrics.")
@option("--slots", default=10, type=Whole(1), help="Attempts that run at once.")
@option("--poll-interval", default=1.0, type=Seconds(), help="Seconds between two looks for work.")
@option("--heartbeat-interval", default=5.0, type=Seconds(), help="Seconds between two renewals.")
@option("--lease", default=30.0, type=Seconds(), help="Seconds for which it may be silent.")
@option("--drain", default=30.0, type=Seconds(), help="Seconds for what runs to end after SIGTERM.")
@option(
    "--log-level",
    envvar="FIBFLOW_LOG_LEVEL",
    default="INFO",
    type=click.Choice(LEVELS, False),
    help="What to tell on stderr.",
)
@option("--exit-with-parent", is_flag=True, help="Leave when the process that started this one is gone.")
def main(
    app: str, database: str, namespace: str, port: int | None, log_level: str, exit_with_parent: bool, **settings: Any
) -> None:
    """Serve the task types of an application, of FIBFLOW_APP if none is given, until SIGTERM."""
    if exit_with_parent:
        threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    configure(Levels(log_level, "INFO" if log_level == "DEBUG" else log_level))  # the DEBUG of all libraries helps nobody
    try:
        worker = Worker(load(app), _database(database, namespace), Settings(**settings))
    except FibflowError as error:
        _leave(_told(error))
    if worker.settings.type not in (None, *worker.app.handlers):
        log.warning("handler_missing", type=worker.settings.type, app=app, handlers=sorted(worker.app.handlers))
    asyncio.run(_serve(worker, port))


def program() -> int:
    """Run it; the exit code of a command line that is wrong, or only asked for help."""
    try:
        code = main(prog_name="fibflow worker", standalone_mode=False)
    except click.ClickException as error:
        tell(error)
        return 2
    except OSError as error:  # nobody, or a full disk, takes the help
        click.echo(f"fibflow worker: {error}", err=True)
        return 1
    except click.Abort:
        return 130
    return code if isinstance(code, int) else 0


async def _serve(worker: Worker, port: int | None) -> None:
    """Serve, then leave at once: a handler that never returns, or never lets itself be cancelled, must not hold us."""
    try:
        if port is not None:
            show(worker)
            health.serve(worker, port)
        await serve(worker)
    except FibflowError as error:
        _leave(_told(error))
    except Exception:
        log.exception("worker_failed")
        _leave(1)
    _leave(0)


def _told(error: FibflowError) -> int:
    click.echo(f"fibflow worker: {one_line(sentence(error))}", err=True)
    return 2


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _database(url: str, namespace: str) -> Database:
    """The database that the worker works on, with the schema that this code needs."""
    check_file(url)
    database = Database(url, namespace=encoding.text(namespace, "namespace", longest=253))
    check_schema(database)
    database.close()  # the worker connects by itself
    return database


def load(target: str) -> App:
    """The App that `module:attribute` names. Raises AppImportError."""
    module, _, attribute = target.partition(":")
    try:
        sys.path.insert(0, os.getcwd())
        found = getattr(importlib.import_module(module), attribute or "app")
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise AppImportError(f"app: {shown(target)} does not import: {_cause(error)}; {WAY_OUT}") from error
    if not isinstance(found, App):
        raise AppImportError(f"app: {shown(target)} is a {type(found).__name__} and no fibflow.App; {WAY_OUT}")
    return found


OURS = tuple(f"{Path(module.__file__).parent}/" for module in (fibflow, fibflow_worker) if module.__file__)
WAY_OUT = "give MODULE:APP, and start the worker in the folder that holds MODULE"


def _cause(error: BaseException) -> str:
    """What was raised, and in which line of the application."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)[:LONGEST_CAUSE]}{where}"


def _is_ours(file: str) -> bool:
    return file == importlib.__file__ or file.startswith(("<frozen ", *OURS))


if __name__ == "__main__":
    sys.exit(program())
