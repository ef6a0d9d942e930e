"""The pages of docs/reference/ that follow from code: commands, options, the context, and the methods of the clients.

For reference.py, which writes them. What a command, an option or a method means is written where it is, not here.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import pairwise
from typing import Any

import click

import fibflow_worker.__main__
from fibflow import model, records
from fibflow.app import App
from fibflow.cli import commands as program
from fibflow.client import Client, Method, Verbs
from fibflow.context import AttemptContext, Context, child
from fibflow.encoding import OPTION_BOUNDS
from fibflow.model import Options
from fibflow.store import reading, retention, subtree, summary, views
from fibflow.store.database import Database
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
    lines += [*_told("app.remove", App.remove), *_told("app.sync", App.sync)]
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


def context(made: str) -> str:
    """What a handler is given, and may do."""
    lines = ["# The context", "", made, *ABOUT_CONTEXT, "| field | |", "|---|---|"]
    texts = _texts(AttemptContext) | {name: inspect.getdoc(each) for name, each in _properties(AttemptContext).items()}
    names = [*(field.name for field in fields(AttemptContext)), *_properties(AttemptContext)]
    lines += [f"| `ctx.{name}` | {texts.get(name, '')} |" for name in names if name not in INNER] + [""]
    for name in ("spawn", "suspend", "progress", "checkpoint", "check_timeout"):
        lines += _told(f"ctx.{name}", getattr(Context, name))
    return "\n".join([*lines, *_told("child", child)])


INNER = ("created", "started")
"""Fields of a context that no handler needs."""

ABOUT_CONTEXT = (
    "What a handler gets as its first argument: its task, and what it may do besides returning a value",
    "([how to write handlers](../handlers.md)). In an async handler `progress` and `checkpoint` are awaited.",
    "",
)


def client(made: str) -> str:
    """The methods of the clients, and the values that they take and return."""
    lines = ["# The client", "", made, *ABOUT_CLIENT, *_told("Client", Client), *_told("Database", Database)]
    for name, method in vars(Verbs).items():
        if isinstance(method, Method):
            lines += _told(name, method.verb)
    for name in ("migrate", "close"):
        lines += _told(name, getattr(Client, name))
    lines += ["## What they take and return", "", *map(_shape, VALUES), ""]
    return "\n".join(lines)


VALUES: tuple[type[Any], ...] = (
    *(
        model.NewTask,
        model.Options,
        model.Task,
        model.Child,
        model.Attempt,
        model.Event,
        records.Page,
        views.TaskAudit,
        views.WorkflowAudit,
    ),
    *(summary.WorkflowSummary, summary.Member, summary.Timing, summary.TimedAttempt, summary.CriticalPath, summary.Step),
    *(subtree.Subtree, reading.Statistic, records.TaskType, records.CronTask, records.Tick, records.Worker),
    *(retention.Pruned, retention.Deleted),
)


def _shape(kind: type[Any]) -> str:
    """A value's fields, in a line."""
    names = [*(field.name for field in fields(kind)), *_properties(kind)]
    return f"- `{kind.__name__}`: {' '.join((inspect.getdoc(kind) or '').split())} {', '.join(f'`{name}`' for name in names)}."


def _properties(kind: type[Any]) -> dict[str, property]:
    return {name: each for name, each in vars(kind).items() if isinstance(each, property)}


ABOUT_CLIENT = (
    "`from fibflow import Client, AsyncClient`. Both have the same methods; those of an `AsyncClient` are awaited.",
    "`from fibflow.store.database import Database` is for who shares one, or says more of it.",
    "",
)


def _signature(name: str, function: Callable[..., Any]) -> str:
    found = inspect.signature(function)
    given = [_as_written(each) for each in found.parameters.values() if each.name not in ("self", "session")]
    returned = "" if isinstance(function, type) or name == "app.add" else f" -> {found.return_annotation}"
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
