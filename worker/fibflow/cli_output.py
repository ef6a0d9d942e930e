"""What the command line shows: tables and trees for people, one JSON document for programs.

Texts come from tasks, so from anyone: nothing that a terminal would obey gets through. Which command shows what is in
`cli`; nothing is read here.
"""

from __future__ import annotations

import base64
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from fibflow.errors import gist
from fibflow.model import Attempt, Event, Task
from fibflow.records import CronTask, Page, TaskType, Worker

WIDE = 200
"""Columns of a table that no terminal shows."""
ENDS = {"completed": "green", "permanently_failed": "red", "cancelled": "yellow", "running": "cyan"}


class Screen(Console):
    """A console that obeys no markup and says when its reader has gone."""

    def __init__(self, file: TextIO | None = None) -> None:
        stream = file or sys.stdout
        super().__init__(file=stream, markup=False, highlight=False, emoji=False, width=None if stream.isatty() else WIDE)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def plain(value: object) -> str:
    """A value as text that a terminal only shows: no control characters, no change of direction. Lines stay lines."""
    text = "" if value is None else str(value)
    return "".join(char if char == "\n" or _harmless(char) else "\ufffd" for char in text.replace("\t", "    "))


def _harmless(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def line(value: object) -> str:
    """The same on one line."""
    return " ".join(plain(value).split())


def json(value: object) -> None:
    """One JSON document; times are ISO 8601, bytes are base64."""
    text = orjson.dumps(value, default=_as_json, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    sys.stdout.write(text.decode() + "\n")


def _as_json(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def page(found: Page[Any]) -> dict[str, Any]:
    """A page as JSON shows it."""
    return {
        "items": list(found.items),
        "total": found.total,
        "limit": found.limit,
        "offset": found.offset,
        "has_more": found.has_more,
    }


def table(columns: Mapping[str, Callable[[Any], object]], rows: Iterable[Any]) -> Table:
    """A table with a column for each name, and what it shows of a row."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        shown.add_column(name.upper(), no_wrap=number == 0, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(line(show(row)), style=_style(show(row))) for show in columns.values()))
    return shown


def _style(value: object) -> str:
    return ENDS.get(str(value), "")


def moment(value: datetime | None) -> str:
    """An instant to the millisecond, in UTC."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}Z"


def between(start: datetime | None, end: datetime | None) -> str:
    """How long it took, or takes so far."""
    if start is None:
        return ""
    return f"{((end or datetime.now(UTC)) - start).total_seconds():.3f} s"


TASK_COLUMNS: dict[str, Callable[[Task], object]] = {
    "id": lambda task: task.id,
    "type": lambda task: task.type,
    "status": lambda task: task.status,
    "attempt": lambda task: f"{task.attempt} ({task.failures}/{task.max_attempts} failed)",
    "last outcome": lambda task: task.last_outcome,
    "due": lambda task: moment(task.run_at),
    "took": lambda task: between(task.started_at, task.finished_at),
    "tag": lambda task: task.tag,
    "detail": lambda task: task.suspend_reason or task.progress_text or _in_a_line(task.error),
}
ATTEMPT_COLUMNS: dict[str, Callable[[Attempt], object]] = {
    "attempt": lambda attempt: attempt.attempt,
    "stage": lambda attempt: attempt.stage,
    "worker": lambda attempt: attempt.worker_id,
    "pod": lambda attempt: attempt.pod_id,
    "started": lambda attempt: moment(attempt.started_at),
    "took": lambda attempt: between(attempt.started_at, attempt.ended_at),
    "outcome": lambda attempt: attempt.outcome or "running",
    "ended by": lambda attempt: attempt.ended_by,
    "error": lambda attempt: _in_a_line(attempt.error),
}
EVENT_COLUMNS: dict[str, Callable[[Event], object]] = {
    "time": lambda event: moment(event.time),
    "event": lambda event: event.type,
    "status": lambda event: " → ".join(filter(None, (event.from_status, event.to_status))),
    "stage": lambda event: event.stage,
    "attempt": lambda event: event.attempt,
    "worker": lambda event: event.worker_id,
    "message": lambda event: event.message,
}

WORKER_COLUMNS: dict[str, Callable[[Worker], object]] = {
    "id": lambda worker: worker.id,
    "pod": lambda worker: worker.pod_id,
    "host": lambda worker: worker.host,
    "pid": lambda worker: worker.pid,
    "status": lambda worker: "paused" if worker.paused and worker.status == "active" else worker.status,
    "busy": lambda worker: f"{worker.running}/{worker.slots}",
    "registered": lambda worker: moment(worker.registered_at),
    "renewed": lambda worker: moment(worker.renewed_at),
    "ended": lambda worker: moment(worker.ended_at),
    "ended by": lambda worker: worker.ended_by,
}
TYPE_COLUMNS: dict[str, Callable[[TaskType], object]] = {
    "name": lambda kind: kind.name,
    "source": lambda kind: kind.source,
    "paused": lambda kind: "yes" if kind.paused else "",
    "timeout": lambda kind: kind.options.timeout,
    "attempts": lambda kind: kind.options.max_attempts,
    "priority": lambda kind: kind.options.priority,
    "per worker": lambda kind: kind.max_concurrent_tasks,
    "description": lambda kind: kind.description,
}
CRON_COLUMNS: dict[str, Callable[[CronTask], object]] = {
    "name": lambda cron: cron.name,
    "type": lambda cron: cron.type,
    "schedule": lambda cron: cron.schedule,
    "next": lambda cron: moment(cron.next_at),
    "state": lambda cron: "suspended" if cron.suspended else "paused" if cron.paused else "",
    "reason": lambda cron: cron.paused_reason,
    "source": lambda cron: cron.source,
}


def _in_a_line(error: str | None) -> str:
    return gist(error or "")[:200]


def task(screen: Screen, shown: Task, attempts: Sequence[Attempt], events: Sequence[Event]) -> None:
    """A task whole: its fields, its attempts, what happened, its error."""
    fields = Table(box=None, show_header=False, pad_edge=False)
    fields.add_column(no_wrap=True, style="bold")
    fields.add_column(overflow="fold")
    for name, value in _fields(shown):
        fields.add_row(name, Text(line(value), style=_style(value)))
    screen.print(fields)
    for title, part in (("Attempts", table(ATTEMPT_COLUMNS, attempts)), ("Timeline", table(EVENT_COLUMNS, events))):
        screen.print(Text(f"\n{title}", style="bold"))
        screen.print(part)
    if shown.error:
        screen.print(Text("\nError", style="bold"))
        screen.print(Text(plain(shown.error.rstrip())))


def _fields(shown: Task) -> Iterable[tuple[str, object]]:
    for name in Task.__dataclass_fields__:
        value = getattr(shown, name)
        if value is None or name == "error":
            continue
        if isinstance(value, datetime):
            value = moment(value)
        elif name in ("payload", "result"):
            value = orjson.dumps(value).decode()
        elif isinstance(value, bytes):
            value = f"{len(value)} bytes"
        yield name.replace("_", " "), value


def tree(tasks: Sequence[Task], top: int, left_out: int) -> Tree:
    """The part of a workflow that is below a task, and the task."""
    branches: dict[int, Tree] = {}
    for member in sorted(tasks, key=lambda member: member.id):
        label = _label(member)
        if member.id == top:
            branches[member.id] = Tree(label)
        elif member.parent_id in branches:
            branches[member.id] = branches[member.parent_id].add(label)
    if left_out:
        branches[top].add(Text(f"… {left_out} more tasks below it"))
    return branches[top]


def _label(member: Task) -> Text:
    label = Text(f"{member.id} {line(member.type)} ")
    label.append(member.status, style=_style(member.status))
    for part in (between(member.started_at, member.finished_at), member.suspend_reason, _in_a_line(member.error)):
        if part:
            label.append(f"  {line(part)}", style="dim")
    return label
