"""The pages of docs/reference/ that follow from code: commands, options, and the methods of the clients.

For reference.py, which writes them. What a command, an option or a method means is written where it is, not here.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import click

import fibflow_worker.__main__
from fibflow import model
from fibflow.app import App
from fibflow.cli import commands as program
from fibflow.client import Client, Method, Verbs
from fibflow.encoding import OPTION_BOUNDS
from fibflow.model import Options
from fibflow_worker.settings import BOUNDS, Settings

WIDTH: dict[str, Any] = {"terminal_width": 100, "max_content_width": 100}
Bounds = Mapping[str, tuple[float, float, bool]]


def commands(made: str) -> str:
    """The help of every command."""
    lines = ["# Commands", "", made, "What `fibflow COMMAND --help` says.", ""]
    for name, command in _commands("fibflow", program):
        shown = fibflow_worker.__main__.main if name == "fibflow worker" else command
        help = shown.get_help(click.Context(shown, info_name=name, help_option_names=["-h", "--help"], **WIDTH))
        lines += [f"## {name}", "", "```text", *(line.rstrip() for line in help.splitlines()), "```", ""]
    return "\n".join(lines)


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for part in sorted(command.commands):
            yield from _commands(f"{name} {part}", command.commands[part])


def options(made: str) -> str:
    """What a task, a handler and a worker may be told."""
    lines = ["# Options", "", made, *ABOUT_OPTIONS, "## Of a task", "", *_table(Options, OPTION_BOUNDS), ""]
    lines += ["## Of a handler", "", *_told("app.add", App.add), "`@app.task` takes the same, but for the function.", ""]
    return "\n".join([*lines, "## Of a worker", "", *_table(Settings, BOUNDS), ""])


ABOUT_OPTIONS = (
    "Durations are seconds. A task's own option goes before that of its TaskType, of the decorator in code, of its parent (for",
    "a child: timeout, max_attempts, the backoff and priority), and the default. A worker's are those of `Settings` and of",
    "[`fibflow worker`](commands.md#fibflow-worker).",
    "",
)


def _table(kind: type[Any], bounds: Bounds) -> Iterator[str]:
    """A row for each field of a dataclass."""
    texts = _texts(kind)
    yield from ("| option | default | bounds | |", "|---|---|---|---|")
    for name, field in kind.__dataclass_fields__.items():
        default = getattr(model, f"DEFAULT_{name.upper()}", None) if field.default is None else field.default
        yield f"| `{name}` | {_default(default)} | {_bounds(bounds.get(name))} | {texts.get(name, '')} |"


def _texts(kind: type[Any]) -> dict[str, str]:
    """The strings that stand below the fields."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _default(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(f"`{each}`" for each in value) if isinstance(value, tuple) else f"`{value}`"


def _bounds(bounds: tuple[float, float, bool] | None) -> str:
    if bounds is None:
        return ""
    lowest, highest, whole = bounds
    return f"{lowest:g} to {highest:,.0f}{', whole' if whole else ''}"


def client(made: str) -> str:
    """The methods of the clients."""
    lines = ["# The client", "", made, *ABOUT_CLIENT, f"`{_signature('Client', Client.__init__)}`", ""]
    for name, method in vars(Verbs).items():
        if isinstance(method, Method):
            lines += _told(name, method.verb)
    for name in ("migrate", "close"):
        lines += _told(name, getattr(Client, name))
    return "\n".join(lines)


ABOUT_CLIENT = (
    "`from fibflow import Client, AsyncClient`. Both have the same methods; those of an `AsyncClient` are awaited.",
    "",
)


def _signature(name: str, function: Callable[..., Any]) -> str:
    found = inspect.signature(function)
    given = [_as_written(each) for each in found.parameters.values() if each.name not in ("self", "session")]
    returned = "" if name in ("Client", "app.add") else f" -> {found.return_annotation}"
    return name + str(found.replace(parameters=given, return_annotation=inspect.Signature.empty)) + returned


@dataclass(frozen=True)
class _Code:
    """A piece of code, which is shown as it stands."""

    text: str

    def __repr__(self) -> str:
        return self.text


def _as_written(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter with its annotation, which is text, and its default as people would write them."""
    default = parameter.default if parameter.default is parameter.empty else _Code(_written(parameter.default))
    return parameter.replace(annotation=_Code(parameter.annotation), default=default)


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))})"
    return repr(value.value if isinstance(value, StrEnum) else value)


def _told(name: str, function: Callable[..., Any]) -> list[str]:
    return [f"`{_signature(name, function)}`", "", *(inspect.getdoc(function) or "").splitlines(), ""]
