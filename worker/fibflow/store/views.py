"""Views: a task, or a workflow, as it stands and how it came to that, in one reading.

What a part of a view may be told is what the verb takes that reads it: audit.py, attempts.py, reading.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fibflow.errors import InvalidInput
from fibflow.model import Attempt, Event, Task
from fibflow.records import Page
from fibflow.store import attempts as of_attempts
from fibflow.store import audit as of_events
from fibflow.store import snapshot
from fibflow.store.database import Session, read
from fibflow.store.reading import find


@dataclass(frozen=True, slots=True)
class TaskAudit:
    """A task as it stands, and how it came to that."""

    task: Task
    events: Page[Event]
    attempts: Page[Attempt]


@dataclass(frozen=True, slots=True)
class WorkflowAudit:
    """A workflow's root, its tasks (the root is one), and their events."""

    task: Task
    tasks: Page[Task]
    events: Page[Event]


@read
def audit(
    session: Session,
    task_id: int,
    *,
    events: Mapping[str, Any] | None = None,
    attempts: Mapping[str, Any] | None = None,
    limit: int | None = 100,
    order: str = "asc",
) -> TaskAudit:
    """A task, and the first (or, with `desc`, the last) of its events and attempts. Raises NotFound, InvalidInput.

    `events` and `attempts` say more: what the methods of these names take, such as `{"types": ["task_checkpoint"]}`.
    """
    alike = {"limit": limit, "order": order}
    return TaskAudit(
        snapshot.one(session, task_id),
        of_events.events(session, task_id, **alike | _said("events", events)),
        of_attempts.attempts(session, task_id, **alike | _said("attempts", attempts)),
    )


@read
def workflow_audit(
    session: Session,
    root_id: int,
    *,
    tasks: Mapping[str, Any] | None = None,
    events: Mapping[str, Any] | None = None,
    limit: int | None = 100,
    order: str = "asc",
) -> WorkflowAudit:
    """A root, and the first (or, with `desc`, the last) of its workflow's tasks and events. Raises as `audit`.

    `tasks` and `events` say more: what the methods `tasks` and `workflow_events` take.
    """
    alike = {"limit": limit, "order": order}
    return WorkflowAudit(
        snapshot.one(session, root_id, "root_id"),
        find(session, root_id=root_id, **alike | _said("tasks", tasks)),
        of_events.workflow_events(session, root_id, **alike | _said("events", events)),
    )


def _said(part: str, asked: object) -> dict[str, Any]:
    if asked is None:
        return {}
    if not isinstance(asked, Mapping):
        raise InvalidInput(part, asked, 'is no dict of arguments; write it as {"limit": 10}')
    return dict(asked)
