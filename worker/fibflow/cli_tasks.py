"""The commands of `fibflow` around tasks: enqueue, list, show, tree, and the verbs that pause, resume, cancel and redrive."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from fibflow import cli_output as output
from fibflow.cli_program import Place, connected, did, reading
from fibflow.cli_values import Seconds, Whole
from fibflow.encoding import parse
from fibflow.model import Outcome, Status
from fibflow.records import Page

T = TypeVar("T")
TASK_ID = Whole(1, (1 << 63) - 1)
LARGEST_PAGE = 10_000
placed = click.make_pass_decorator(Place, ensure=True)
tasks = click.Group()
"""The commands, for the program to take over."""


@tasks.command()
@click.argument("task_type", metavar="TYPE")
@click.argument("payload", metavar="[PAYLOAD-JSON]", default="{}")
@click.option("--delay", type=Seconds(), help="Seconds until it is due.")
@click.option("--priority", type=Whole(), help="From -20 to 20; a higher one is claimed earlier.")
@click.option("--tag", help="A text to find it by.")
@click.option("--timeout", type=Seconds(), help="Seconds that one attempt may take.")
@click.option("--max-attempts", type=Whole(), help="Attempts that may fail.")
@reading
@placed
def enqueue(place: Place, /, task_type: str, payload: str, **options: Any) -> None:
    """Enqueue a task and print its id. The payload is JSON, `-` reads it from stdin."""
    value = parse(sys.stdin.buffer.read() if payload == "-" else payload, "payload")
    with connected(place) as client:
        task_id = client.enqueue(task_type, value, **options)
    if place.json:
        output.json({"id": task_id})
    else:
        click.echo(task_id)


@tasks.command(name="list")
@click.option("--type", "type", metavar="TYPE", help="Of this task type.")
@click.option("--status", type=click.Choice([str(status) for status in Status]), help="With this status.")
@click.option("--last-outcome", type=click.Choice([str(outcome) for outcome in Outcome]), help="Whose last attempt ended so.")
@click.option("--tag", help="With this tag.")
@click.option("--suspend-reason", help="Suspended for this reason.")
@click.option("--limit", type=Whole(1, LARGEST_PAGE), default=100, show_default=True, help="How many tasks at most.")
@click.option("--offset", type=Whole(0, 1 << 62), default=0, show_default=True, help="How many tasks to leave out first.")
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


@tasks.command()
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


@tasks.command()
@click.argument("task_id", metavar="ID", type=TASK_ID)
@click.option("--limit", type=Whole(1, LARGEST_PAGE), default=1000, show_default=True, help="How many tasks at most.")
@reading
@placed
def tree(place: Place, task_id: int, limit: int) -> None:
    """Show what a task spawned, and what that spawned, with status and durations."""
    with connected(place) as client:
        found = client.subtree(task_id, limit)
    if place.json:
        output.json({"root_id": found.tasks[0].root_id, "tasks": found.tasks, "left_out": found.left_out})
    else:
        output.Screen().print(output.tree(found.tasks, task_id, found.left_out))


def _add_verb(name: str, done: str, text: str, *, reasoned: bool) -> None:
    """A command that has the client do one thing to one task."""

    @tasks.command(name=name, help=text)
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
    @tasks.command(name=name, help=text)
    @click.argument("task_type", metavar="NAME")
    @reading
    @placed
    def act(place: Place, task_type: str) -> None:
        with connected(place) as client:
            getattr(client, name.replace("-", "_"))(task_type)
        did(place, f"{name}: {task_type}", type=task_type, done=done)


_add_type_verb("pause-type", "paused", "Hold back the tasks of a type; what runs goes on.")
_add_type_verb("resume-type", "resumed", "Let the tasks of a paused type go on.")
