"""The client: the store's verbs, in sync form and awaitable, from one list and one implementation.

`Client` and `AsyncClient` have the same methods, those of `Verbs`. A method's signature, errors and documentation are the
verb's own, less its first argument. What a verb does is the story of store/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

import fibflow.plain_verbs
import fibflow.store.attempts
import fibflow.store.audit
import fibflow.store.control
import fibflow.store.cron
import fibflow.store.cron_reading
import fibflow.store.enqueue
import fibflow.store.leases
import fibflow.store.reading
import fibflow.store.retention
import fibflow.store.subtree
import fibflow.store.summary
import fibflow.store.tasktypes
import fibflow.store.views
from fibflow.errors import DatabaseUnavailable
from fibflow.store.database import Database, Session
from fibflow.store.opening import Place, opened

P = ParamSpec("P")
R = TypeVar("R")


class Method(Generic[P, R]):
    """A verb as a client's method: it returns when it is done, or, of an AsyncClient, is awaited."""

    def __init__(self, verb: Callable[Concatenate[Session, P], R]) -> None:
        self.verb = verb
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Callable[Concatenate[Session, P], R]: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, R]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        return self.verb if client is None else self.bound(client)

    def bound(self, client: Client | AsyncClient) -> Any:
        """The method of a client."""
        return partial(client.do, self.verb)


class Batch(Protocol):
    """What one batch of a larger work gives."""

    @property
    def more(self) -> bool: ...
    def __add__(self, following: Self, /) -> Self: ...


B = TypeVar("B", bound=Batch)


class Batches(Method[P, B]):
    """A verb that does a bounded part of its work, as a method that does all of it; the batches added up."""

    def bound(self, client: Client | AsyncClient) -> Any:
        return partial(client.do_all, self.verb)


class Verbs:
    """What both clients can do."""

    enqueue = Method(fibflow.plain_verbs.enqueue)
    enqueue_many = Method(fibflow.store.enqueue.enqueue_many)
    get = Method(fibflow.store.reading.get)
    tasks = Method(fibflow.store.reading.find)
    children = Method(fibflow.store.reading.children)
    subtree = Method(fibflow.store.subtree.subtree)
    statistics = Method(fibflow.store.reading.statistics)
    workers = Method(fibflow.store.reading.workers)
    attempts = Method(fibflow.store.attempts.attempts)
    workflow_attempts = Method(fibflow.store.attempts.workflow_attempts)
    events = Method(fibflow.store.audit.events)
    workflow_events = Method(fibflow.store.audit.workflow_events)
    audit = Method(fibflow.store.views.audit)
    workflow_audit = Method(fibflow.store.views.workflow_audit)
    workflow_summary = Method(fibflow.store.summary.workflow_summary)
    pause_worker = Method(fibflow.store.leases.pause_worker)
    resume_worker = Method(fibflow.store.leases.resume_worker)
    pause = Method(fibflow.store.control.pause)
    resume = Method(fibflow.store.control.resume)
    cancel = Method(fibflow.store.control.cancel)
    redrive = Method(fibflow.store.control.redrive)
    declare_types = Method(fibflow.store.tasktypes.declare_types)
    types = Method(fibflow.store.tasktypes.types)
    type = Method(fibflow.store.tasktypes.type_named)
    pause_type = Method(fibflow.store.tasktypes.pause_type)
    resume_type = Method(fibflow.store.tasktypes.resume_type)
    put_cron = Method(fibflow.plain_verbs.put_cron)
    delete_cron = Method(fibflow.store.cron.delete_cron)
    pause_cron = Method(fibflow.store.cron.pause_cron)
    resume_cron = Method(fibflow.store.cron.resume_cron)
    crons = Method(fibflow.store.cron_reading.crons)
    ticks = Method(fibflow.store.cron_reading.ticks)
    prune = Batches(fibflow.store.retention.prune)
    delete = Batches(fibflow.store.retention.delete)

    def __init__(self, database: Place = None, *, namespace: str | None = None) -> None:
        self._database = opened(database, namespace)
        self._own = self._database is not database
        self._closed = False

    @property
    def database(self) -> Database:
        """What the client works on. Raises DatabaseUnavailable when it was closed."""
        if self._closed:
            raise DatabaseUnavailable("this client was closed; make another one")
        return self._database


class Client(Verbs):
    """Enqueue, look and steer from any program.

    `database`: a URL, a SQLAlchemy engine, or a Database to share; without one, what FIBFLOW_DATABASE names. `namespace`:
    that of the Database, else FIBFLOW_NAMESPACE, else "default".
    """

    def do(self, verb: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a verb of the store."""
        return self.database.call(verb, *args, **kwargs)

    def do_all(self, verb: Callable[Concatenate[Session, P], B], *args: P.args, **kwargs: P.kwargs) -> B:
        """Run a verb until it has no more to do."""
        total = self.do(verb, *args, **kwargs)
        while total.more:
            total += self.do(verb, *args, **kwargs)
        return total

    def migrate(self) -> str:
        """Bring the database to the newest schema; its version."""
        from fibflow.store.migrate import migrate  # which few programs do

        return migrate(self.database)

    def close(self) -> None:
        """Close the connections, unless they are shared; what is called later is refused."""
        if self._own:
            self._database.close()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()


class AsyncClient(Verbs):
    """The same, awaitable. On PostgreSQL an engine may be async, too."""

    async def do(self, verb: Callable[Concatenate[Session, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a verb of the store."""
        return await self.database.run(verb, *args, **kwargs)

    async def do_all(self, verb: Callable[Concatenate[Session, P], B], *args: P.args, **kwargs: P.kwargs) -> B:
        """Run a verb until it has no more to do."""
        total = await self.do(verb, *args, **kwargs)
        while total.more:
            total += await self.do(verb, *args, **kwargs)
        return total

    async def migrate(self) -> str:
        """Bring the database to the newest schema; its version."""
        from fibflow.store.migrate import migrate

        return await asyncio.to_thread(migrate, self.database)

    async def close(self) -> None:
        """Close the connections, unless they are shared; what is called later is refused."""
        if self._own:
            await self._database.aclose()
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self.close()
