"""Verbs of the store that take a value, NewTask or CronDeclaration, with its fields as plain arguments instead."""

from __future__ import annotations

from datetime import datetime

import fibflow.store.cron
import fibflow.store.enqueue
from fibflow.model import ConcurrencyPolicy, Json, MissedRunPolicy, NewTask, Options, TaskId
from fibflow.store.database import Session, statement, write

NO_PAYLOAD: Json = {}
"""Stands for a payload that was not given, which is not the payload None, JSON's null."""


def given(payload: Json) -> Json:
    """A payload, or a new empty one for none."""
    return {} if payload is NO_PAYLOAD else payload


@statement
def enqueue(
    session: Session,
    type: str,
    payload: Json = NO_PAYLOAD,
    *,
    delay: float | None = None,
    run_at: datetime | None = None,
    priority: int | None = None,
    tag: str | None = None,
    timeout: float | None = None,
    max_attempts: int | None = None,
    backoff: float | None = None,
    backoff_factor: float | None = None,
    max_backoff: float | None = None,
) -> TaskId:
    """Store one task of a type; its id. Durations in seconds. Raises InvalidInput, UnknownTaskType."""
    options = Options(timeout, max_attempts, backoff, backoff_factor, max_backoff, priority)
    new = NewTask(type, given(payload), tag=tag, delay=delay, run_at=run_at, options=options)
    return fibflow.store.enqueue.enqueue(session, new)


@write
def put_cron(
    session: Session,
    name: str,
    type: str,
    schedule: str,
    payload: Json = NO_PAYLOAD,
    *,
    missed_run_policy: MissedRunPolicy | str = MissedRunPolicy.RUN_LATEST,
    concurrency_policy: ConcurrencyPolicy | str = ConcurrencyPolicy.FORBID,
    pause_on_failure: bool = True,
    suspended: bool = False,
    priority: int | None = None,
    tag: str | None = None,
    timeout: float | None = None,
    max_attempts: int | None = None,
    backoff: float | None = None,
    backoff_factor: float | None = None,
    max_backoff: float | None = None,
) -> int:
    """Declare a cron task, or change the one of this name; its id. Its tasks get the payload, the tag and the options.

    Of the instants that passed while nothing could decide them, or it was paused, `RunLatest` runs the latest, `Skip` none;
    one that is at most 10 s late is not missed. With `Forbid`, none runs while another's task is not final. Durations in
    seconds. Raises InvalidInput, UnknownTaskType.
    """
    declaration = fibflow.store.cron.CronDeclaration(
        name,
        type,
        schedule,
        given(payload),
        tag,
        Options(timeout, max_attempts, backoff, backoff_factor, max_backoff, priority),
        missed_run_policy,
        concurrency_policy,
        pause_on_failure,
        suspended,
    )
    return fibflow.store.cron.put_cron(session, declaration)
