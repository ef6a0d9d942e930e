"""`fibflow cron`: when a schedule is due, and the cron tasks of a database. The arithmetic is in `schedule`."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import click

from fibflow import cli_output as output
from fibflow.cli_program import Place, connected, did, listed, reading
from fibflow.cli_values import Whole
from fibflow.schedule import SECOND, Schedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
placed = click.make_pass_decorator(Place, ensure=True)


@click.group()
def cron() -> None:
    """Schedules and cron tasks."""


@cron.command(name="next")
@click.argument("schedule")
@click.option("-n", "count", type=Whole(1, 1000), default=5, show_default=True, help="How many instants.")
@reading
@placed
def following(place: Place, schedule: str, count: int) -> None:
    """Print the next instants of a schedule, in UTC. It needs no database."""
    instants = _following(Schedule.parse(schedule), round(time.time() * SECOND), count)
    if place.json:
        output.json({"schedule": schedule, "instants": instants})
    else:
        click.echo("\n".join(f"{instant:%Y-%m-%d %H:%M:%S}Z" for instant in instants))


def _following(schedule: Schedule, instant: int, count: int) -> list[datetime]:
    found = []
    for _ in range(count):
        instant = schedule.next_after(instant)
        found.append(EPOCH + timedelta(microseconds=instant))
    return found


@cron.command(name="list")
@reading
@placed
def list_crons(place: Place) -> None:
    """List the cron tasks."""
    with connected(place) as client:
        listed(place, client.crons(), output.CRON_COLUMNS)


def _add_verb(name: str, done: str, text: str) -> None:
    """A command that has the client do one thing to one cron task."""

    @cron.command(name=name, help=text)
    @click.argument("cron_name", metavar="NAME")
    @reading
    @placed
    def act(place: Place, cron_name: str) -> None:
        with connected(place) as client:
            getattr(client, f"{name}_cron")(cron_name)
        did(place, f"{done}: {cron_name}", cron=cron_name, done=done)


_add_verb("pause", "paused", "Decide no more ticks of a cron task until it is resumed.")
_add_verb("resume", "resumed", "Let a cron task tick again.")
