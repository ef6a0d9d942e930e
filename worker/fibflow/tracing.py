"""Traces: a span for each enqueue and each attempt, one trace from the first call to the end of the last child.

An option: where OpenTelemetry's API is installed (`fibflow[otel]`) and the application has set up a provider, spans are made;
elsewhere nothing is, at the cost of asking. What ties spans of different processes together is W3C's `traceparent`, which a
task carries in its row: an enqueue gives its own, an attempt goes on from it, and children go on from the attempt that made
them. Whatever text a row may hold, what is not a traceparent begins a new trace.

Where spans are made is the business of store/enqueue.py and of the worker's attempts.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import context as contexts
    from opentelemetry import trace as traces
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

NAME = "fibflow"
HEADER = "traceparent"
AGAIN = 1.0
"""Seconds until it is asked again whether there is a provider: to ask for each task took a fifth off a drain."""


@dataclass(slots=True)
class Sight:
    """Whether a provider was found, which stays then, and when it was looked for."""

    found: bool = False
    at: float = -math.inf


SIGHT = Sight()


def wanted() -> bool:
    """Whether spans are to be made."""
    if not SIGHT.found and INSTALLED and (moment := time.monotonic()) - SIGHT.at >= AGAIN:
        SIGHT.at = moment
        SIGHT.found = not isinstance(traces.get_tracer_provider(), traces.ProxyTracerProvider)
    return SIGHT.found


def enqueuing(type: str, tasks: int, given: str | None) -> AbstractContextManager[str | None]:
    """A span around an insert of tasks; what they are to carry: what was given, None where nothing is traced."""
    return _enqueuing(type, tasks) if given is None and wanted() else nullcontext(given)


@contextmanager
def _enqueuing(type: str, tasks: int) -> Iterator[str | None]:
    attributes: dict[str, str | int] = {"fibflow.type": type, "fibflow.tasks": tasks}
    tracer = traces.get_tracer(NAME)
    with tracer.start_as_current_span(f"enqueue {type}", kind=traces.SpanKind.PRODUCER, attributes=attributes):
        yield _carried(contexts.get_current())


def _carried(context: Context) -> str | None:
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context)
    return carrier.get(HEADER)


def _going_on(carried: str | None) -> Context:
    """The context that a task carries: a new trace if it carries none."""
    return TraceContextTextMapPropagator().extract({HEADER: carried} if carried else {}, contexts.Context())


@dataclass(slots=True)
class Traced:
    """The span of an attempt; `carried` is what goes on from it."""

    span: Span
    context: Context
    carried: str | None

    def enter(self) -> None:
        """What runs in this asyncio task, or thread, from now on is part of the attempt."""
        contexts.attach(self.context)

    def end(self, outcome: str, error: str | None = None) -> None:
        """The attempt is over; only the first end counts."""
        if not self.span.is_recording():
            return
        self.span.set_attribute("fibflow.outcome", outcome)
        if error is not None:
            self.span.set_attribute("exception.stacktrace", error)
            self.span.set_status(traces.StatusCode.ERROR, error.rstrip().rpartition("\n")[2])
        self.span.end()


def attempting(type: str, carried: str | None, attributes: Callable[[], Mapping[str, Any]]) -> Traced | None:
    """The span of an attempt of a task that carries this; None where nothing is traced, and then no attributes are made."""
    if not wanted():
        return None
    tracer, before = traces.get_tracer(NAME), _going_on(carried)
    named = {f"fibflow.{name}": value for name, value in attributes().items() if value is not None}
    span = tracer.start_span(f"attempt {type}", before, traces.SpanKind.CONSUMER, {"fibflow.type": type, **named})
    if not span.is_recording():
        return None
    context = traces.set_span_in_context(span, before)
    return Traced(span, context, _carried(context))


@contextmanager
def within(carried: str | None) -> Iterator[None]:
    """What runs here, in a process of its own, is part of an attempt elsewhere."""
    token = contexts.attach(_going_on(carried)) if INSTALLED and carried else None
    try:
        yield
    finally:
        if token is not None:
            contexts.detach(token)
