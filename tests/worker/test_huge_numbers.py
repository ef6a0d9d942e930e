"""Every number that a command or a call of the client takes: what is none, or beyond all bounds, is refused by its name."""

import inspect
from collections.abc import Iterator
from typing import Any

import click
import pytest

import fibflow_worker.__main__
from fibflow import Client
from fibflow.cli import commands
from fibflow.client import Method, Verbs
from fibflow.errors import InvalidInput
from fibflow.model import Options
from fix_commands import content, refused

HUGE = (10**30, 2**63, -(10**30), -(2**63) - 1)
NEEDED = {"task_type": "resize", "task_id": "1", "schedule": "@daily", "app": "shop:app"}
"""What else a command needs, by the name of the argument."""


def numbers(name: str, command: click.Command) -> Iterator[tuple[str, click.Command, click.Parameter]]:
    """The numbers of a command and those below it."""
    if isinstance(command, click.Group):
        for part, below in command.commands.items():
            shown = fibflow_worker.__main__.main if below.name == "worker" else below
            yield from numbers(f"{name} {part}".strip(), shown)
    for parameter in command.params:
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            yield name, command, parameter


NUMBERS = list(numbers("", commands))


@pytest.mark.parametrize(("name", "command", "number"), NUMBERS, ids=[f"{name} {number.name}" for name, _, number in NUMBERS])
def test_a_number_of_a_command_is_refused_by_its_name(fibflow, name, command, number, resizing, shop):
    def call(value):
        others = [NEEDED[each.name] for each in command.params if isinstance(each, click.Argument) and each.required]
        given = ["--", value] if isinstance(number, click.Argument) else [number.opts[-1], value, *others]
        return fibflow("--database", f"sqlite:///{resizing}", *name.split(), *given)

    before = content(resizing)
    shown = number.metavar if isinstance(number, click.Argument) else number.opts[-1]
    refused(call("x"), f"'{shown}'", "'x' is not a valid ", "number")
    for value in (2**63, -(10**30), "9" * 5000):
        done = call(str(value))
        refused(done)
        told = done.stderr.decode()
        assert f"'{shown}'" in told or f"{number.name}: " in told, told
        assert len(told.splitlines()[-1]) < 400
    assert content(resizing) == before


def test_there_are_numbers_among_the_commands():
    assert {"list", "show", "tree", "enqueue", "prune", "migrate", "cron next", "worker"} <= {name for name, _, _ in NUMBERS}


OPTIONS = ("timeout", "max_attempts", "backoff", "backoff_factor", "max_backoff", "priority")


def calls() -> Iterator[tuple[str, str, dict[str, object]]]:
    """The methods of the client that take a number, its name, and what else they need."""
    given: dict[str, object] = {"type": "resize", "name": "x", "schedule": "@daily", "payload": {}}
    for name, method in vars(Verbs).items():
        if not isinstance(method, Method):
            continue
        parameters = [each for each in inspect.signature(method.verb).parameters.values() if each.name != "session"]
        named = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
        needed = {each.name: given.get(each.name, 1) for each in named if each.default is each.empty}
        for each in named:
            if any(word in str(each.annotation) for word in ("int", "float", "TaskId", "WorkerId")):
                yield name, each.name, needed


CALLS = list(calls())


@pytest.mark.parametrize(("method", "number", "needed"), CALLS, ids=[f"{method} {number}" for method, number, _ in CALLS])
def test_a_number_of_the_client_is_refused_by_its_name(method, number, needed, resizing):
    before = content(resizing)
    with Client(f"sqlite:///{resizing}") as client:
        for value in HUGE:
            with pytest.raises(InvalidInput, match=f"^{number}: "):
                getattr(client, method)(**{**needed, number: value})
    assert content(resizing) == before


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_a_task_is_refused_by_its_name(option, resizing):
    with Client(f"sqlite:///{resizing}") as client:
        for value in HUGE:
            given: Any = {option: value}
            with pytest.raises(InvalidInput, match=f"^{option}: "):
                client.enqueue("resize", **given)
    assert set(OPTIONS) == set(Options.__dataclass_fields__)
