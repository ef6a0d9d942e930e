"""`fibflow cron`: when a schedule is due, and the cron tasks of a database. The arithmetic is in `schedule`."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import click

from fibflow import cli_output as output
from fibflow.cli_program import Place, connected, did, reading
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
        found = list(client.crons())
    if place.json:
        output.json(found)
    else:
        output.Screen().print(output.table(output.CRON_COLUMNS, found))


@cron.command()
@click.argument("name")
@reading
@placed
def pause(place: Place, name: str) -> None:
    """End the ticks of a cron task until it is resumed."""
    with connected(place) as client:
        client.pause_cron(name)
    did(place, f"paused: {name}", cron=name, done="paused")


@cron.command()
@click.argument("name")
@reading
@placed
def resume(place: Place, name: str) -> None:
    """Let a cron task tick again."""
    with connected(place) as client:
        client.resume_cron(name)
    did(place, f"resumed: {name}", cron=name, done="resumed")
