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
import fibflow.store.leases
import fibflow.store.migrate
import fibflow.store.reading
import fibflow.store.retention
import fibflow.store.summary
import fibflow.store.tasktypes
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
    return fibflow.store.enqueue.enqueue(session, NewTask(type, given, tag=tag, delay=delay, run_at=run_at, options=options))


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
    enqueue_many = Sync(fibflow.store.enqueue.enqueue_many)
    get = Sync(fibflow.store.reading.get)
    tasks = Sync(fibflow.store.reading.find)
    children = Sync(fibflow.store.reading.children)
    statistics = Sync(fibflow.store.reading.statistics)
    workers = Sync(fibflow.store.reading.workers)
    attempts = Sync(fibflow.store.attempts.attempts)
    workflow_attempts = Sync(fibflow.store.attempts.workflow_attempts)
    events = Sync(fibflow.store.audit.events)
    workflow_events = Sync(fibflow.store.audit.workflow_events)
    audit = Sync(fibflow.store.audit.audit)
    workflow_audit = Sync(fibflow.store.audit.workflow_audit)
    workflow_summary = Sync(fibflow.store.summary.workflow_summary)
    pause_worker = Sync(fibflow.store.leases.pause_worker)
    resume_worker = Sync(fibflow.store.leases.resume_worker)
    pause = Sync(fibflow.store.control.pause)
    resume = Sync(fibflow.store.control.resume)
    cancel = Sync(fibflow.store.control.cancel)
    redrive = Sync(fibflow.store.control.redrive)
    declare_types = Sync(fibflow.store.tasktypes.declare_types)
    types = Sync(fibflow.store.tasktypes.types)
    type = Sync(fibflow.store.tasktypes.type_named)
    pause_type = Sync(fibflow.store.tasktypes.pause_type)
    resume_type = Sync(fibflow.store.tasktypes.resume_type)
    put_cron = Sync(fibflow.store.cron.put_cron)
    delete_cron = Sync(fibflow.store.cron.delete_cron)
    pause_cron = Sync(fibflow.store.cron.pause_cron)
    resume_cron = Sync(fibflow.store.cron.resume_cron)
    crons = Sync(fibflow.store.cron.crons)
    ticks = Sync(fibflow.store.cron.ticks)
    prune = Sync(fibflow.store.retention.prune)
    delete = Sync(fibflow.store.retention.delete)

    def migrate(self) -> str:
        """Bring the database to the newest schema; its version."""
        return fibflow.store.migrate.migrate(self.database)

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


class AsyncClient:
    """The same verbs, awaitable."""

    def __init__(self, database: str | Database, *, namespace: str = "default") -> None:
        self.database = database if isinstance(database, Database) else Database(database, namespace=namespace)

    enqueue = Async(enqueue_task)
    enqueue_many = Async(fibflow.store.enqueue.enqueue_many)
    get = Async(fibflow.store.reading.get)
    tasks = Async(fibflow.store.reading.find)
    children = Async(fibflow.store.reading.children)
    statistics = Async(fibflow.store.reading.statistics)
    workers = Async(fibflow.store.reading.workers)
    attempts = Async(fibflow.store.attempts.attempts)
    workflow_attempts = Async(fibflow.store.attempts.workflow_attempts)
    events = Async(fibflow.store.audit.events)
    workflow_events = Async(fibflow.store.audit.workflow_events)
    audit = Async(fibflow.store.audit.audit)
    workflow_audit = Async(fibflow.store.audit.workflow_audit)
    workflow_summary = Async(fibflow.store.summary.workflow_summary)
    pause_worker = Async(fibflow.store.leases.pause_worker)
    resume_worker = Async(fibflow.store.leases.resume_worker)
    pause = Async(fibflow.store.control.pause)
    resume = Async(fibflow.store.control.resume)
    cancel = Async(fibflow.store.control.cancel)
    redrive = Async(fibflow.store.control.redrive)
    declare_types = Async(fibflow.store.tasktypes.declare_types)
    types = Async(fibflow.store.tasktypes.types)
    type = Async(fibflow.store.tasktypes.type_named)
    pause_type = Async(fibflow.store.tasktypes.pause_type)
    resume_type = Async(fibflow.store.tasktypes.resume_type)
    put_cron = Async(fibflow.store.cron.put_cron)
    delete_cron = Async(fibflow.store.cron.delete_cron)
    pause_cron = Async(fibflow.store.cron.pause_cron)
    resume_cron = Async(fibflow.store.cron.resume_cron)
    crons = Async(fibflow.store.cron.crons)
    ticks = Async(fibflow.store.cron.ticks)
    prune = Async(fibflow.store.retention.prune)
    delete = Async(fibflow.store.retention.delete)

    async def close(self) -> None:
        """Close the connections."""
        await self.database.aclose()
