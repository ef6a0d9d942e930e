"""The command `fibflow`: each command is a few lines around a verb of the client.

What is shown is in `cli_output`; databases, errors and exit codes are in `cli_program`; cron tasks are in `cli_cron`.
`dev` goes on in `dev`, `worker` becomes the program fibflow_worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import orjson

from fibflow import cli_output as output
from fibflow.cli_cron import cron
from fibflow.cli_program import Place, connected, did, located, reading, run
from fibflow.errors import InvalidInput
from fibflow.logs import LEVELS, configure
from fibflow.model import FINAL, Json, Outcome, Status
from fibflow.records import Page

T = TypeVar("T")
TASK_ID = click.IntRange(1, (1 << 63) - 1)
LARGEST_PAGE = 10_000
PRUNABLE = sorted(str(status) for status in FINAL)
EXAMPLE = '{"name": "value"}'
placed = click.make_pass_decorator(Place, ensure=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fibflow")
@click.option("--log-level", envvar="FIBFLOW_LOG_LEVEL", type=click.Choice(LEVELS, False), help="What to tell on stderr.")
@located
def commands(log_level: str | None) -> None:
    """Durable tasks, workflows and cron on PostgreSQL or SQLite.

    Exit codes: 0 done; 1 the database or something else of fibflow failed; 2 bad input: a wrong value or option, an
    unknown id, a verb that the task's status does not allow, a database that is not there or not migrated.
    """
    configure(log_level or "WARNING")
    if log_level is not None:  # for the workers that this command becomes or starts
        os.environ["FIBFLOW_LOG_LEVEL"] = log_level


def main() -> NoReturn:
    """The entry point."""
    sys.exit(run(commands))


commands.add_command(cron)


# ── programs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@commands.command()
@click.option("-f", "--file", type=click.Path(path_type=Path), required=True, help="A manifest, or a folder of them.")
@located
@placed
def dev(place: Place, file: Path) -> None:
    """Run manifests on this machine: migrate, apply, and keep a worker process for each replica."""
    from fibflow.dev import run as run_manifests

    run_manifests(file, place.url, place.namespace, lambda text: click.echo(output.plain(text), err=True))


@commands.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@placed
def worker(place: Place, arguments: tuple[str, ...]) -> None:
    """Become a worker of an application: fibflow worker MODULE:APP [OPTIONS]."""
    os.environ["FIBFLOW_DATABASE"] = place.url
    os.environ["FIBFLOW_NAMESPACE"] = place.namespace
    os.execv(sys.executable, [sys.executable, "-m", "fibflow_worker", *arguments])


@commands.command()
@reading
@placed
def migrate(place: Place) -> None:
    """Bring the database to the newest schema; a SQLite file is made if there is none."""
    from fibflow.store.migrate import migrate as migrate_database
    from fibflow.store.sqlite_file import check_place

    check_place(place.url)
    version = migrate_database(place.url)
    did(place, f"the schema stands at {version}", schema=version, done="migrated")


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@commands.command()
@click.argument("task_type", metavar="TYPE")
@click.argument("payload", metavar="[PAYLOAD-JSON]", default="{}")
@click.option("--delay", type=float, help="Seconds until it is due.")
@click.option("--priority", type=int, help="From -20 to 20; a higher one is claimed earlier.")
@click.option("--tag", help="A text to find it by.")
@click.option("--timeout", type=float, help="Seconds that one attempt may take.")
@click.option("--max-attempts", type=int, help="Attempts that may fail.")
@reading
@placed
def enqueue(place: Place, /, task_type: str, payload: str, **options: Any) -> None:
    """Enqueue a task and print its id. The payload is JSON, `-` reads it from stdin."""
    value = _payload(sys.stdin.read() if payload == "-" else payload)
    with connected(place) as client:
        task_id = client.enqueue(task_type, value, **options)
    if place.json:
        output.json({"id": task_id})
    else:
        click.echo(task_id)


def _payload(text: str) -> Json:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidInput("payload", text, f"is not JSON ({error}); write it as {EXAMPLE}") from None


@commands.command(name="list")
@click.option("--type", "type", metavar="TYPE", help="Of this task type.")
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="With this status.")
@click.option("--last-outcome", type=click.Choice([str(outcome) for outcome in Outcome]), help="Whose last attempt did.")
@click.option("--tag", help="With this tag.")
@click.option("--suspend-reason", help="Suspended for this reason.")
@click.option("--limit", type=click.IntRange(1, LARGEST_PAGE), default=100, show_default=True)
@click.option("--offset", type=click.IntRange(0, 1 << 62), default=0, show_default=True)
@reading
@placed
def list_tasks(place: Place, /, **filters: Any) -> None:
    """List tasks by id."""
    with connected(place) as client:
        found = client.tasks(**filters)
    if place.json:
        return output.json(output.page(found))
    screen = output.Screen()
    screen.print(output.table(output.TASK_COLUMNS, found.items))
    if found.has_more or found.offset:
        screen.print(f"{len(found.items)} of {found.total} tasks, from {found.offset} on")


@commands.command()
@click.argument("task_id", metavar="ID", type=TASK_ID)
@reading
@placed
def show(place: Place, task_id: int) -> None:
    """Show a task whole: fields, attempts, timeline, error."""
    with connected(place) as client:
        task = client.get(task_id)
        attempts = list(_all(lambda offset: client.attempts(task_id, limit=LARGEST_PAGE, offset=offset)))
        events = list(_all(lambda offset: client.events(task_id, limit=LARGEST_PAGE, offset=offset)))
    if place.json:
        output.json({"task": task, "attempts": attempts, "events": events})
    else:
        output.task(output.Screen(), task, attempts, events)


def _all(fetch: Callable[[int], Page[T]]) -> Iterator[T]:
    offset, more = 0, True
    while more:
        part = fetch(offset)
        yield from part.items
        offset += len(part.items)
        more = part.has_more and bool(part.items)


@commands.command()
@click.argument("task_id", metavar="ID", type=TASK_ID)
@click.option("--limit", type=click.IntRange(1, LARGEST_PAGE), default=1000, show_default=True)
@reading
@placed
def tree(place: Place, task_id: int, limit: int) -> None:
    """Show what a task spawned, and what that spawned, with status and durations."""
    with connected(place) as client:
        top = client.get(task_id)
        found = client.tasks(root_id=top.root_id, limit=limit)
    members = _below(top.id, {task.id: task for task in (top, *found.items)})
    left_out = found.total - len(found.items)
    if place.json:
        output.json({"root_id": top.root_id, "tasks": members, "left_out": left_out})
    else:
        output.Screen().print(output.tree(members, top.id, left_out))


def _below(top: int, tasks: dict[Any, Any]) -> list[Any]:
    """A task and what is below it; parents have lower ids than their children."""
    kept: dict[int, Any] = {}
    for task_id, task in sorted(tasks.items()):
        if task_id == top or task.parent_id in kept:
            kept[task_id] = task
    return list(kept.values())


def _add_verb(name: str, done: str, text: str, *, reasoned: bool) -> None:
    """A command that has the client do one thing to one task."""

    @commands.command(name=name, help=text)
    @click.argument("task_id", metavar="ID", type=TASK_ID)
    @reading
    @placed
    def act(place: Place, task_id: int, reason: str | None = None) -> None:
        with connected(place) as client:
            getattr(client, name)(task_id, **({} if reason is None else {"reason": reason}))
        did(place, f"{name}: task {task_id}", id=task_id, done=done)

    if reasoned:
        act.params.append(click.Option(["--reason"], help="Why, for the timeline."))


_add_verb("pause", "paused", "Hold a task back until it is resumed; what runs of it is stopped.", reasoned=False)
_add_verb("resume", "resumed", "Let a paused or suspended task go on.", reasoned=True)
_add_verb("cancel", "cancelled", "End a task; what it spawned goes on.", reasoned=True)
_add_verb("redrive", "redriven", "Start a task that has ended again, with all its attempts.", reasoned=False)


def _add_type_verb(name: str, done: str, text: str) -> None:
    @commands.command(name=name, help=text)
    @click.argument("task_type", metavar="NAME")
    @reading
    @placed
    def act(place: Place, task_type: str) -> None:
        with connected(place) as client:
            getattr(client, name.replace("-", "_"))(task_type)
        did(place, f"{name}: {task_type}", type=task_type, done=done)


_add_type_verb("pause-type", "paused", "Hold back the tasks of a type; what runs goes on.")
_add_type_verb("resume-type", "resumed", "Let the tasks of a paused type go on.")


# ── workers, types, retention ─────────────────────────────────────────────────────────────────────────────────────


@commands.command()
@reading
@placed
def workers(place: Place) -> None:
    """List the workers, and those that were not long ago."""
    with connected(place) as client:
        found = list(client.workers())
    _answer(place, found, output.WORKER_COLUMNS)


@commands.command()
@reading
@placed
def types(place: Place) -> None:
    """List the task types."""
    with connected(place) as client:
        found = list(client.types())
    _answer(place, found, output.TYPE_COLUMNS)


def _answer(place: Place, found: list[Any], columns: dict[str, Callable[[Any], object]]) -> None:
    if place.json:
        output.json(found)
    else:
        output.Screen().print(output.table(columns, found))


@commands.command()
@click.option("--age", type=float, help="Seconds since the last task ended. [default: a day]")
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
