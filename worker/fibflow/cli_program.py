"""How the command line starts and ends: where the database is, and which exit code an error becomes.

    0  done        1  the database or something else of fibflow failed        2  bad input, no sound database there

An error of fibflow is one sentence on stderr, never a traceback. The commands are in `cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fibflow import cli_output
from fibflow.cli_values import tell
from fibflow.encoding import text
from fibflow.errors import (
    AppImportError,
    DatabaseDamaged,
    DatabaseUnavailable,
    FibflowError,
    IllegalTransition,
    InvalidInput,
    NotFound,
    SchemaMismatch,
    sentence,
)

if TYPE_CHECKING:
    from fibflow.client import Client

DEFAULT_URL = "sqlite:///fibflow.db"
BAD_INPUT = (
    InvalidInput,
    NotFound,
    IllegalTransition,
    AppImportError,
    DatabaseDamaged,
    DatabaseUnavailable,
    SchemaMismatch,
)
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Place:
    """Where commands work. `json`: whether they answer in JSON."""

    url: str = DEFAULT_URL
    namespace: str = "default"
    json: bool = False


def located(command: Command) -> Command:
    """Give a command --database and --namespace; they may stand before it and after it. Raises InvalidInput."""
    command = _place_option("--namespace", "namespace", "FIBFLOW_NAMESPACE", "Namespace to work in.")(command)
    return _place_option("--database", "url", "FIBFLOW_DATABASE", f"Database URL. [default: {DEFAULT_URL}]")(command)


def _place_option(flag: str, name: str, variable: str, what: str) -> Callable[[Command], Command]:
    def remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        place = context.ensure_object(Place)
        if name == "namespace" and value is not None:
            text(value, name, longest=253)
        if value is not None and (context.parent is None or not _from_environment(context, parameter)):
            setattr(place, name, value)

    return click.option(
        flag, envvar=variable, show_envvar=True, expose_value=False, is_eager=True, callback=remember, help=what
    )


def _from_environment(context: click.Context, parameter: click.Parameter) -> bool:
    """What stands on the command line, even before the command, goes before the environment."""
    source = context.get_parameter_source(parameter.name or "")
    return source is click.core.ParameterSource.ENVIRONMENT


def reading(command: Command) -> Command:
    """Give a command -o json|table, and --database and --namespace."""

    def remember(context: click.Context, parameter: click.Parameter, value: str) -> None:
        context.ensure_object(Place).json = value == "json"

    choice = click.Choice(["json", "table"])
    option = click.option(
        "-o", "--output", type=choice, default="table", expose_value=False, callback=remember, help="How to answer."
    )
    return located(option(command))


def did(place: Place, told: str, **answer: object) -> None:
    """Say what was done: a line for people, the same in fields for programs."""
    if place.json:
        cli_output.json(answer)
    else:
        click.echo(cli_output.line(told))


def listed(place: Place, found: Sequence[object], columns: Mapping[str, Callable[[Any], object]]) -> None:
    """Show what was found: a table for people, all of it for programs."""
    if place.json:
        cli_output.json(found)
    else:
        cli_output.Screen().print(cli_output.table(columns, found))


@contextmanager
def connected(place: Place) -> Iterator[Client]:
    """A client of a database that is there. Raises InvalidInput for a SQLite file that is not, and makes none."""
    from fibflow.client import Client
    from fibflow.store.sqlite_file import check_file

    check_file(place.url)

    client = Client(place.url, namespace=place.namespace)
    try:
        yield client
    finally:
        client.close()


def run(commands: click.Group, arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code. What a user did wrong, or a database, is said on stderr in one sentence."""
    _open_streams()
    try:
        code = commands.main(arguments, prog_name="fibflow", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        tell(error)
        return 2
    except BAD_INPUT as error:
        return _said(error, 2)
    except FibflowError as error:
        return _said(error, 1)
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        _say(f"{error}; mend that, and see what was done before you repeat it")
        _drop_output()
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _said(error: FibflowError, code: int) -> int:
    _say(sentence(error))
    return code


def _say(told: str) -> None:
    click.echo(f"Error: {cli_output.plain(told)}", err=True)


def _open_streams() -> None:
    """A stream that whoever started us has closed is an empty one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _drop_output() -> None:
    """Nobody takes our output any more; leave nothing to be flushed into it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
