"""The application: which handler serves which task type. Handlers may be added and removed while a worker runs.

A running attempt keeps the handler that it started with; later attempts get the newest. What runs a handler is the
worker program.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fibflow import encoding
from fibflow.errors import InvalidInput
from fibflow.model import Json
from fibflow.store.database import Database
from fibflow.store.tasktypes import Declaration, check_declaration, declare_types

Function = TypeVar("Function", bound=Callable[..., Any])
LOOP, THREAD, PROCESS = "loop", "thread", "process"


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that serves a task type: where it runs, what it declares, and the shape of its payload.

    `whole`: it takes the payload as a whole, as its parameter of that name; without a shape, whatever it is.
    """

    declaration: Declaration
    function: Callable[..., Any]
    run_in: str
    shape: type[BaseModel] | None
    whole: bool = False

    def arguments(self, payload: Json) -> dict[str, Any]:
        """The payload as keyword arguments, checked by the type hints. Raises InvalidInput naming the field."""
        if self.shape is None:
            return {"payload": payload}
        try:
            checked = self.shape.model_validate({"payload": payload} if self.whole else payload)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"])) or "payload"
            wanted = fault["msg"] if fault["loc"] else _object_with(self.shape.model_fields)
            raise InvalidInput(place, fault["input"], f"does not fit the handler: {wanted}") from None
        return {name: getattr(checked, name) for name in type(checked).model_fields} | (checked.model_extra or {})


def _object_with(parameters: Iterable[str]) -> str:
    named = ", ".join(parameters)
    return f"give an object with its parameters: {named}" if named else "give an object; {} is one"


class App:
    """A set of handlers. `defaults` are the options of every type that does not say otherwise."""

    def __init__(self, **defaults: Any) -> None:
        self.defaults = defaults
        self.handlers: dict[str, Handler] = {}
        self.version = 0

    def task(self, name: str, **options: Any) -> Callable[[Function], Function]:
        """Register the decorated function for a task type; the function itself stays what it was. Raises InvalidInput."""
        if not isinstance(name, str):
            raise InvalidInput("name", name, 'is not a text; write @app.task("NAME")')

        def register(function: Function) -> Function:
            self.add(name, function, **options)
            return function

        return register

    def add(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        max_concurrent_tasks: int | None = None,
        description: str | None = None,
        run_in: str | None = None,
        **options: Any,
    ) -> None:
        """Serve a task type by a function, which takes a context and the payload. Raises InvalidInput.

        `options` are those of a task, for all of this type that do not say otherwise. `max_concurrent_tasks`: how many of them
        one worker runs at once. `run_in="process"`: a process of its own, which is killed at the timeout; without it, an async
        function runs in the event loop, another one in a thread.
        """
        if not callable(function):
            raise InvalidInput("function", function, "is no handler; give a function that takes a context")
        declaration = Declaration(name, encoding.named_options(self.defaults | options), max_concurrent_tasks, description)
        check_declaration(declaration)
        self.handlers = {**self.handlers, name: Handler(declaration, function, _place(function, run_in), *_shape(function))}
        self.version += 1

    def remove(self, names: str | Iterable[str]) -> int:
        """Stop serving task types; how many of them were served."""
        gone = {names} if isinstance(names, str) else set(names)
        left = {name: handler for name, handler in self.handlers.items() if name not in gone}
        removed = len(self.handlers) - len(left)
        self.handlers = left
        self.version += 1 if removed else 0
        return removed

    def sync(self, database: Database) -> dict[str, int]:
        """Declare the task types in the database; their ids by name."""
        return database.call(declare_types, [handler.declaration for handler in self.handlers.values()])


def _place(function: Callable[..., Any], run_in: str | None) -> str:
    natural = LOOP if inspect.iscoroutinefunction(_written(function)) else THREAD
    if run_in == PROCESS and natural == THREAD:
        return PROCESS
    if run_in not in (None, natural):
        raise InvalidInput("run_in", run_in, f"does not fit this function; it runs in the {natural}")
    return natural


def _written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where a handler is written: the function that a partial completes, or the `__call__` of an object."""
    while isinstance(function, partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The context's parameter, then those of the payload. Raises InvalidInput where a payload's fields cannot be passed."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except ValueError as error:  # such as of a class that is built in
        raise InvalidInput("function", function, f"does not tell its parameters ({error}); give a function") from None
    if not found or found[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise InvalidInput("function", function, "takes no context; let its first parameter be the context")
    for parameter in found[1:]:
        unnamed = parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
        if unnamed or parameter.name.startswith("_") or parameter.name == "model_config":
            raise InvalidInput("function", function, f"cannot get {parameter}: a payload's field is a plain name")
    return found


def _shape(function: Callable[..., Any]) -> tuple[type[BaseModel] | None, bool]:
    """The payload's model, from the type hints, and whether the handler takes the payload as a whole."""
    parameters = _parameters(function)[1:]
    named = [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    whole = len(parameters) == len(named) == 1 and named[0].name == "payload"
    if whole and named[0].annotation is inspect.Parameter.empty:
        return None, whole
    try:
        return _model(named, _hints(function, named), closed=named == parameters), whole
    except Exception as error:  # whatever typing and pydantic raise for a hint that they do not understand
        raise InvalidInput("function", function, f"has a type hint that cannot be used: {error}") from error


def _hints(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """What the parameters are to be. The context's hint is not looked at: it may be there for a type checker only."""
    inner = inspect.unwrap(_written(function))
    hinted = {each.name: each.annotation for each in parameters if each.annotation is not each.empty}
    annotated = SimpleNamespace(__annotations__=hinted)
    return get_type_hints(annotated, getattr(inner, "__globals__", {}), include_extras=True)


def _model(parameters: Iterable[inspect.Parameter], hints: Mapping[str, Any], *, closed: bool) -> type[BaseModel]:
    fields: dict[str, Any] = {
        each.name: (hints.get(each.name, Any), ... if each.default is each.empty else each.default) for each in parameters
    }
    others: Literal["allow", "forbid"] = "forbid" if closed else "allow"
    with warnings.catch_warnings():  # a field may have the name of a method of pydantic's
        warnings.filterwarnings("ignore", message="Field name .* shadows")
        return create_model("Payload", __config__=ConfigDict(extra=others, arbitrary_types_allowed=True), **fields)
