"""The command `fibflow`: each command is a few lines around a verb of the client.

What is shown is in `cli_output`; databases, errors and exit codes are in `cli_program`; tasks are in `cli_tasks`, cron
tasks in `cli_cron`. `dev` goes on in `dev`, `worker` becomes the program fibflow_worker.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click

from fibflow import cli_output as output
from fibflow.cli_cron import cron
from fibflow.cli_program import Place, connected, did, listed, located, reading, run
from fibflow.cli_tasks import tasks
from fibflow.cli_values import Seconds
from fibflow.encoding import LONGEST_DURATION, number, optional_text, text
from fibflow.logs import LEVELS, Levels, configure
from fibflow.model import FINAL, Status

PRUNABLE = sorted(str(status) for status in FINAL)
placed = click.make_pass_decorator(Place, ensure=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fibflow")
@click.option("--log-level", envvar="FIBFLOW_LOG_LEVEL", type=click.Choice(LEVELS, False), help="What to tell on stderr.")
@located
def commands(log_level: str | None) -> None:
    """Durable tasks, workflows and cron on PostgreSQL or SQLite.

    Exit codes: 0 done; 1 the database or something else of fibflow failed; 2 bad input: a wrong value or option, an
    unknown id, a verb that the task's status does not allow, a database that is not there, not migrated or damaged.
    """
    configure(Levels(log_level or "WARNING"))
    if log_level is not None:  # for the workers that this command becomes or starts
        os.environ["FIBFLOW_LOG_LEVEL"] = log_level


def main() -> NoReturn:
    """The entry point."""
    sys.exit(run(commands))


commands.add_command(cron)
for command in tasks.commands.values():
    commands.add_command(command)


# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@commands.command()
@click.option("-f", "--file", required=True, help="A manifest, or a folder of them.")
@located
@placed
def dev(place: Place, file: str) -> None:
    """Run manifests on this machine: migrate, apply, and keep a worker process for each replica.

    A manifest that changes is applied at once; for a change of the application, start this command anew.
    """
    from fibflow.dev import run as run_manifests

    run_manifests(Path(text(file, "file")), place.url, place.namespace, lambda told: click.echo(output.plain(told), err=True))


@commands.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@placed
def worker(place: Place, arguments: tuple[str, ...]) -> None:
    """Become a worker of an application: fibflow worker MODULE:APP [OPTIONS]."""
    os.environ["FIBFLOW_DATABASE"] = place.url
    os.environ["FIBFLOW_NAMESPACE"] = place.namespace
    os.execv(sys.executable, [sys.executable, "-m", "fibflow_worker", *arguments])


@commands.command()
@click.option("--wait", type=Seconds(), default=0.0, help="Seconds to wait for a database that does not answer yet.")
@click.option("--installation", metavar="ID", help="Refuse a database that serves another installation.")
@click.option(
    "--checking", metavar="URL", envvar="FIBFLOW_CHECKING", help="Check afterwards that this role may use the tables."
)
@reading
@placed
def migrate(place: Place, wait: float, installation: str | None, checking: str | None) -> None:
    """Bring the database to the newest schema; a SQLite file is made if there is none."""
    from fibflow.store.migrate import migrate_when_up
    from fibflow.store.rights import check_rights
    from fibflow.store.sqlite_file import check_place

    number(wait, "wait", 0, LONGEST_DURATION)
    optional_text(installation, "installation")
    check_place(place.url)
    version = migrate_when_up(place.url, wait, installation)
    if checking is not None:
        check_rights(checking)
    did(place, f"the schema stands at {version}", schema=version, done="migrated")


# ── workers, types, retention ─────────────────────────────────────────────────────────────────────────────────────


@commands.command()
@reading
@placed
def workers(place: Place) -> None:
    """List the workers, and those that were not long ago."""
    with connected(place) as client:
        listed(place, client.workers(), output.WORKER_COLUMNS)


@commands.command()
@reading
@placed
def types(place: Place) -> None:
    """List the task types."""
    with connected(place) as client:
        listed(place, client.types(), output.TYPE_COLUMNS)


@commands.command()
@click.option("--age", type=Seconds(), help="Seconds since the last task ended. [default: a day]")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([*PRUNABLE, str(Status.PAUSED)]),
    default=PRUNABLE,
    show_default=True,
    help="Of workflows whose first task ended so; may be given several times.",
)
@reading
@placed
def prune(place: Place, age: float | None, statuses: tuple[str, ...]) -> None:
    """Delete workflows that ended long ago."""
    with connected(place) as client:
        total = asdict(client.prune(age=age, statuses=statuses))
    del total["more"]
    if place.json:
        output.json(total)
    else:
        click.echo("deleted " + ", ".join(f"{count} {name}" for name, count in total.items()))
