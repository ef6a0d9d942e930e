"""The child's side of a handler in a process: its context is rebuilt, the handler is called, reports go to the parent.

How the process is kept and killed is in processes.py.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from fibflow import tracing
from fibflow.context import AttemptContext, Context
from fibflow.logs import Levels, configure, configured
from fibflow_worker.child import Link


@dataclass(frozen=True, slots=True)
class Call:
    """A handler by its module and name, the fields of its context, its arguments, the trace that it is part of, and what the
    worker writes to its log."""

    module: str
    name: str
    fields: dict[str, Any]
    arguments: dict[str, Any]
    trace: str | None = None
    levels: Levels | None = None


PASSED = tuple(name for name in AttemptContext.__dataclass_fields__ if name not in ("started", "cancelled"))
"""The fields of a context that a process is told."""


def call_handler(link: Link, call: Call) -> Any:
    """Call the handler in this process; what it returned."""
    if call.levels is not None and configured() is None:  # before the application, which may have wishes of its own
        configure(call.levels)
    function = getattr(importlib.import_module(call.module), call.name)
    context = LinkedContext(**call.fields, tell=lambda task_id, fence, note, snapshot: link.note((note, snapshot)))
    context.link = link
    with tracing.within(call.trace):
        return function(context, **call.arguments)


class LinkedContext(Context):
    """A context that hears over the link why its handler should stop."""

    link: Link | None = None

    @property
    def cancelled(self) -> str | None:
        return None if self.link is None else self.link.cancelled

    @cancelled.setter
    def cancelled(self, reason: str | None) -> None:
        """Only the parent says so."""
