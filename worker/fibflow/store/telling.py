"""What an event says: its sentence, and the fields that are its metadata. Pure.

A stored event brings along what nothing else tells. The rest is in METADATA and SENTENCES, one type a line; which rows
there are is the story of derived.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fibflow import encoding
from fibflow.errors import gist
from fibflow.model import DEFAULT_MAX_ATTEMPTS, EventType, Json, Outcome

Row = Any
Metadata = Mapping[str, Json]


def message_of(row: Row) -> str | None:
    """One line: what the event was stored with, the gist of an error, or its type's sentence."""
    told = gist(row.message) if row.message and not row.event_id else row.message
    return told or SENTENCES.get(row.type)


def metadata_of(row: Row) -> Metadata | None:
    """What the event is about, in fields."""
    told = METADATA.get(row.type)
    return encoding.decode(row.metadata) if told is None else told(row)


SENTENCES = {
    EventType.CREATED: "the task was created",
    EventType.SUBTASKS_CREATED: "its children were created",
    EventType.CLAIMED: "a worker claimed the task",
    EventType.STARTED: "the attempt started",
    EventType.RETRY_STARTED: "an attempt after a failure started",
    EventType.COMPLETED: "the task completed",
    EventType.FAILED: "the attempt failed",
    EventType.TIMED_OUT: "the attempt timed out",
    EventType.RETRY_SCHEDULED: "another attempt follows",
    EventType.RESUMED: "the task goes on",
    EventType.PAUSED: "the task was paused",
    EventType.CANCELLED: "the task was cancelled",
    EventType.REDRIVEN: "the task starts again",
    EventType.PERMANENTLY_FAILED: "no attempt is left",
    EventType.STALE_WRITE_REJECTED: "a late write was refused",
    EventType.STATUS_CHANGED: "the status changed",
}


def _created(row: Row) -> Metadata:
    return {"type": row.task_type, "tag": row.tag}


def _retry_started(row: Row) -> Metadata:
    return {"failures": row.failures}


def _failed(row: Row) -> Metadata:
    return {"error": row.message, "failures": row.failures + 1}


def _timed_out(row: Row) -> Metadata:
    return {**_failed(row), "settled_by": row.worker_id if row.ended_by is None else row.ended_by}


def _retry_scheduled(row: Row) -> Metadata:
    return {"failures": row.failures + 1, "outcome": row.outcome}


def _permanently_failed(row: Row) -> Metadata:
    counted = row.outcome != Outcome.INTERRUPTED
    exhausted = counted and row.failures + 1 >= (row.max_attempts or DEFAULT_MAX_ATTEMPTS)
    return {"error": row.message, "failures": row.failures + counted, "retry_exhausted": exhausted}


def _suspended(row: Row) -> Metadata:
    """The message is the reason; the metadata that the handler gave is beside it."""
    return {**(encoding.decode(row.metadata) or {}), "suspend_reason": row.message}


def _resumed(row: Row) -> Metadata:
    """A person's resume is stored with its reason; the end of the last child needs none."""
    stored: Metadata | None = encoding.decode(row.metadata)
    return stored or {"resume_reason": "children_completed"}


def _stale(row: Row) -> Metadata:
    return {"fence": row.attempt, "verb": row.verb, "count": row.count}


METADATA: dict[str, Callable[[Row], Metadata]] = {
    EventType.CREATED: _created,
    EventType.RETRY_STARTED: _retry_started,
    EventType.FAILED: _failed,
    EventType.TIMED_OUT: _timed_out,
    EventType.RETRY_SCHEDULED: _retry_scheduled,
    EventType.PERMANENTLY_FAILED: _permanently_failed,
    EventType.SUSPENDED: _suspended,
    EventType.RESUMED: _resumed,
    EventType.STALE_WRITE_REJECTED: _stale,
}
