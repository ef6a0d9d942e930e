"""Traces: one from an enqueue to the end of the last child, whoever runs what, and none where nobody asked for any."""

import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from fibflow import NewTask, PermanentError, tracing
from fibflow.context import child
from fibflow.store.tables import task_final
from fix_semantics import serving, until
from traced_app import told_trace


class Spans:
    """What has been traced so far."""

    def __init__(self):
        self._memory = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.get_tracer = provider.get_tracer

    def named(self, name, count=1):
        """The spans of that name, once there are so many."""
        return until(lambda: found if len(found := self._named(name)) >= count else None)

    def _named(self, name):
        return [span for span in self._memory.get_finished_spans() if span.name == name]

    def all(self):
        return self._memory.get_finished_spans()


@pytest.fixture
def spans(monkeypatch):
    """An application has set up a provider, as long as the test lasts."""
    made = Spans()
    monkeypatch.setattr(trace, "get_tracer", made.get_tracer)
    monkeypatch.setattr(tracing, "SIGHT", tracing.Sight(found=True))
    return made


def follows(span, before):
    """Whether a span goes on from another."""
    return span.context.trace_id == before.context.trace_id and span.parent.span_id == before.context.span_id


def test_an_attempt_goes_on_from_the_enqueue_which_goes_on_from_what_was_under_way(workplace, spans):
    workplace.start(serving(work=lambda ctx, payload: 1))
    with spans.get_tracer("app").start_as_current_span("request"):
        task_id = workplace.client.enqueue("work", tag="blue")
    workplace.ended(task_id)
    (attempt,), (enqueue,), (request,) = (spans.named(name) for name in ("attempt work", "enqueue work", "request"))
    assert follows(attempt, enqueue) and follows(enqueue, request)
    assert (enqueue.kind, attempt.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    told = {"task_id": task_id, "attempt": 1, "stage": 0, "type": "work", "tag": "blue", "outcome": "completed"}
    assert attempt.attributes.items() >= {f"fibflow.{name}": value for name, value in told.items()}.items()


def test_each_attempt_of_a_task_is_a_span_and_tells_of_its_failure(workplace, spans):
    def work(ctx, payload):
        if ctx.failures == 0:
            raise ValueError("not yet")
        raise PermanentError("never")

    workplace.start(serving(work=work))
    workplace.outcome("work", max_attempts=3)
    first, second = spans.named("attempt work", 2)
    assert first.context.trace_id == second.context.trace_id
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "ValueError: not yet")
    assert "Traceback" in first.attributes["exception.stacktrace"]
    assert second.attributes["fibflow.attempt"] == 2


def test_children_and_later_stages_are_in_the_trace_of_their_parent(workplace, spans):
    async def parent(ctx, payload):
        return ctx.spawn([child("leaf"), child("leaf")]) if ctx.stage == 0 else "done"

    workplace.start(serving(parent=parent, leaf=lambda ctx, payload: None))
    workplace.outcome("parent")
    stages, leaves = spans.named("attempt parent", 2), spans.named("attempt leaf", 2)
    assert all(follows(leaf, stages[0]) for leaf in leaves)
    assert len({span.context.trace_id for span in spans.all()}) == 1
    assert [stage.attributes["fibflow.outcome"] for stage in stages] == ["suspended", "completed"]


def test_what_a_handler_traces_is_part_of_its_attempt_wherever_it_runs(workplace, spans):
    def traced():
        with spans.get_tracer("app").start_as_current_span(f"inside {threading.current_thread().name[:7]}"):
            pass

    async def looping(ctx, payload):
        traced()

    app = serving(looping=looping, threaded=lambda ctx, payload: traced())
    app.add("apart", told_trace, run_in="process")
    workplace.start(app)
    for name in ("looping", "threaded"):
        workplace.outcome(name)
    (inside_loop,), (inside_thread,) = spans.named("inside workpla"), spans.named("inside handler")
    assert follows(inside_loop, spans.named("attempt looping")[0])
    assert follows(inside_thread, spans.named("attempt threaded")[0])
    apart = workplace.outcome("apart").result
    (attempt,) = spans.named("attempt apart")
    assert apart == [f"{attempt.context.trace_id:032x}", f"{attempt.context.span_id:016x}"]


def test_an_attempt_that_is_taken_away_ends_its_span_and_says_why(workplace, spans):
    started = threading.Event()

    def work(ctx, payload):
        started.set()
        until(lambda: ctx.cancelled)

    workplace.start(serving(work=work))
    task_id = workplace.client.enqueue("work")
    assert started.wait(15)
    workplace.client.cancel(task_id)
    (attempt,) = spans.named("attempt work")
    assert attempt.attributes["fibflow.outcome"].startswith("taken: ")


@pytest.mark.parametrize("text", ["00-" + "1" * 32 + "-" + "2" * 16 + "-01", "nonsense", "00-zz; DROP TABLE task"])
def test_a_task_goes_on_from_the_trace_it_was_given_and_begins_one_where_that_is_none(workplace, spans, text):
    workplace.start(serving(work=lambda ctx, payload: None))
    (task_id,) = workplace.client.enqueue_many([NewTask("work", trace=text)])
    workplace.ended(task_id)
    (attempt,) = spans.named("attempt work")
    parent = attempt.parent and f"00-{attempt.parent.trace_id:032x}-{attempt.parent.span_id:016x}-01"
    assert parent == (text if text.endswith("-01") else None)


def test_nothing_is_traced_or_carried_where_no_provider_is_set_up(workplace):
    workplace.start(serving(work=lambda ctx, payload: None))
    task_id = workplace.client.enqueue("work")
    workplace.ended(task_id)
    with workplace.database.engine.connect() as connection:
        query = sa.select(task_final.c.trace).where(task_final.c.id == task_id)
        assert connection.execute(query).one() == (None,)


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from fibflow import App, Client, tracing
import fibflow_worker.runtime
assert not tracing.INSTALLED
app, client = App(), Client("sqlite://")
client.migrate()
app.add("work", lambda ctx, payload: None)
app.sync(client.database)
assert client.enqueue("work") == 1
assert tracing.attempting("work", None, None) is None
"""


def test_without_opentelemetry_nothing_is_missed():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True, timeout=60)


LATER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from fibflow import tracing

assert not tracing.wanted()
trace.set_tracer_provider(TracerProvider())
assert not tracing.wanted(), "it is not asked each time"
tracing.AGAIN = 0.0
assert tracing.wanted()
"""


def test_a_provider_that_an_application_sets_up_is_found_within_a_moment_and_not_asked_for_each_time():
    assert subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True).stderr == ""
