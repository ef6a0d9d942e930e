"""The client: the store's verbs, in sync form and awaitable, from one list and one implementation.

`Client` and `AsyncClient` have the same methods. A method's signature, errors and documentation are the verb's own, less
its first argument. What a verb does is the story of store/.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import fibflow.store.attempts
import fibflow.store.audit
import fibflow.store.control
import fibflow.store.cron
import fibflow.store.enqueue
import fibflow.store.migrate
import fibflow.store.reading
import fibflow.store.retention
import fibflow.store.summary
import fibflow.store.tasktypes
from fibflow import store
from fibflow.model import Json, NewTask, Options, TaskId
from fibflow.store.database import Database, Session, statement

P = ParamSpec("P")
R = TypeVar("R")


@statement
def enqueue_task(
    session: Session,
    type: str,
    payload: Json = None,
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
    given = {} if payload is None else payload
    return store.enqueue.enqueue(session, NewTask(type, given, tag=tag, delay=delay, run_at=run_at, options=options))


class Sync(Generic[P, R]):
    """A verb as a method that returns when it is done."""

    def __init__(self, verb: Callable[Concatenate[Session, P], R]) -> None:
        self.verb = verb
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Sync[P, R]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, R]: ...
    def __get__(self, client: Client | None, owner: type) -> Any:
        if client is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> R:
            return client.database.call(self.verb, *args, **kwargs)

        return method


class Async(Generic[P, R]):
    """A verb as a method that is awaited."""

    def __init__(self, verb: Callable[Concatenate[Session, P], R]) -> None:
        self.verb = verb
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Async[P, R]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, client: AsyncClient | None, owner: type) -> Any:
        if client is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
            return client.database.run(self.verb, *args, **kwargs)

        return method


class Client:
    """Enqueue, look and steer from any program. `database`: a URL, or a Database to share."""

    def __init__(self, database: str | Database, *, namespace: str = "default") -> None:
        self.database = database if isinstance(database, Database) else Database(database, namespace=namespace)

    enqueue = Sync(enqueue_task)
    enqueue_many = Sync(store.enqueue.enqueue_many)
    get = Sync(store.reading.get)
    tasks = Sync(store.reading.find)
    children = Sync(store.reading.children)
    statistics = Sync(store.reading.statistics)
    workers = Sync(store.reading.workers)
    attempts = Sync(store.attempts.attempts)
    workflow_attempts = Sync(store.attempts.workflow_attempts)
    events = Sync(store.audit.events)
    workflow_events = Sync(store.audit.workflow_events)
    audit = Sync(store.audit.audit)
    workflow_audit = Sync(store.audit.workflow_audit)
    workflow_summary = Sync(store.summary.workflow_summary)
    pause = Sync(store.control.pause)
    resume = Sync(store.control.resume)
    cancel = Sync(store.control.cancel)
    redrive = Sync(store.control.redrive)
    declare_types = Sync(store.tasktypes.declare_types)
    types = Sync(store.tasktypes.types)
    pause_type = Sync(store.tasktypes.pause_type)
    resume_type = Sync(store.tasktypes.resume_type)
    put_cron = Sync(store.cron.put_cron)
    delete_cron = Sync(store.cron.delete_cron)
    pause_cron = Sync(store.cron.pause_cron)
    resume_cron = Sync(store.cron.resume_cron)
    crons = Sync(store.cron.crons)
    ticks = Sync(store.cron.ticks)
    prune = Sync(store.retention.prune)
    delete = Sync(store.retention.delete)

    def migrate(self) -> str:
        """Bring the database to the newest schema; its version."""
        return store.migrate.migrate(self.database)

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


class AsyncClient:
    """The same verbs, awaitable."""

    def __init__(self, database: str | Database, *, namespace: str = "default") -> None:
        self.database = database if isinstance(database, Database) else Database(database, namespace=namespace)

    enqueue = Async(enqueue_task)
    enqueue_many = Async(store.enqueue.enqueue_many)
    get = Async(store.reading.get)
    tasks = Async(store.reading.find)
    children = Async(store.reading.children)
    statistics = Async(store.reading.statistics)
    workers = Async(store.reading.workers)
    attempts = Async(store.attempts.attempts)
    workflow_attempts = Async(store.attempts.workflow_attempts)
    events = Async(store.audit.events)
    workflow_events = Async(store.audit.workflow_events)
    audit = Async(store.audit.audit)
    workflow_audit = Async(store.audit.workflow_audit)
    workflow_summary = Async(store.summary.workflow_summary)
    pause = Async(store.control.pause)
    resume = Async(store.control.resume)
    cancel = Async(store.control.cancel)
    redrive = Async(store.control.redrive)
    declare_types = Async(store.tasktypes.declare_types)
    types = Async(store.tasktypes.types)
    pause_type = Async(store.tasktypes.pause_type)
    resume_type = Async(store.tasktypes.resume_type)
    put_cron = Async(store.cron.put_cron)
    delete_cron = Async(store.cron.delete_cron)
    pause_cron = Async(store.cron.pause_cron)
    resume_cron = Async(store.cron.resume_cron)
    crons = Async(store.cron.crons)
    ticks = Async(store.cron.ticks)
    prune = Async(store.retention.prune)
    delete = Async(store.retention.delete)

    async def close(self) -> None:
        """Close the connections."""
        await self.database.aclose()
