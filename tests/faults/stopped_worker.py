"""`python -m faults.stopped_worker module:app`: a worker like any other, whose writes come late.

It obeys no deadline of its own, so that nothing but the fence can refuse what it writes. While the file `--hold` is there
it hears of nothing that others do: its renewals, and its looks at what it owns, do not get through. It says what it tried
to write for its attempts, and what was refused. `--cut N` makes it stop itself in its first settle, after N statements; 0:
before COMMIT.
"""

import asyncio
import functools
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import click
import orjson
import sqlalchemy as sa

import statements
from fibflow.app import App
from fibflow.errors import LeaseLost
from fibflow.store import leases, polling, record, settle
from fibflow.store.database import Database, Session
from fibflow.store.ending import VERB
from fibflow.store.schema import check_schema
from fibflow_worker.__main__ import load
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings

Tried = Sequence[tuple[int, int, str]]
"""(task, fence, verb)"""


def _of_settle(worker_id: int, endings: Sequence[Any], *_: Any) -> Tried:
    return [(*ending.key, VERB[ending.outcome]) for ending in endings]


def _of_spawn(worker_id: int, ending: Any, *_: Any) -> Tried:
    return [(*ending.key, "spawn")]


def _of_note(worker_id: int, task_id: int, fence: int, note: Any, *_: Any) -> Tried:
    return [(task_id, fence, note.type.removeprefix("task_"))]


WRITES: dict[Any, tuple[Callable[..., Tried], Callable[[Any], Sequence[LeaseLost]]]] = {
    settle.settle: (_of_settle, lambda answer: answer),
    settle.settle_and_claim: (_of_settle, lambda answer: answer[0]),
    settle.settle_unheld: (_of_settle, lambda answer: answer[0]),
    record.spawn: (_of_spawn, lambda answer: answer),
    record.note_running: (_of_note, lambda answer: [] if answer is None else [answer]),
}
"""The verbs that write for an attempt: what a call tries, and which of it its answer refuses."""

HEARS = {leases.renew, polling.owned}
"""The verbs from which a worker learns that it lost something. (After a COMMIT without an answer it must look what it owns,
or it settles nothing more.)
"""


class Watched(Database):
    """A database that tells of every write for an attempt."""

    def __init__(self, url: str, hold: Path, cut: int | None) -> None:
        super().__init__(url)
        self.hold, self.cut = hold, cut
        self.deaf = HEARS if cut is None else HEARS - {polling.owned}

    def call(self, verb: Any, *args: Any, **kwargs: Any) -> Any:
        while verb in self.deaf and self.hold.exists():
            time.sleep(0.01)
        if verb not in WRITES:
            return super().call(verb, *args, **kwargs)
        try:
            answer = super().call(verb, *args, **kwargs)
        except Exception as error:
            _say(verb, args, error=error)
            raise
        _say(verb, args, answer)
        return answer

    async def run(self, verb: Any, *args: Any, **kwargs: Any) -> Any:
        while verb in self.deaf and self.hold.exists():
            await asyncio.sleep(0.01)
        return await self._telling(super().run, verb, *args, **kwargs)

    async def once(self, verb: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._telling(super().once, verb, *args, **kwargs)

    async def _telling(self, run: Callable[..., Awaitable[Any]], verb: Any, *args: Any, **kwargs: Any) -> Any:
        if verb not in WRITES or not self.postgresql:
            return await run(verb, *args, **kwargs)
        try:
            answer = await run(self._to_be_cut(verb), *args, **kwargs)
        except BaseException as error:
            _say(verb, args, error=error)
            raise
        _say(verb, args, answer)
        return answer

    def _to_be_cut(self, verb: Any) -> Any:
        cut, self.cut = self.cut, None
        return verb if cut is None else _stopping(verb, cut)


def _say(verb: Any, args: Any, answer: Any = None, error: BaseException | None = None) -> None:
    tried, refusals = WRITES[verb]
    refused = [] if error is not None else [(one.task_id, one.fence, one.verb) for one in refusals(answer)]
    held = answer[1] if verb is settle.settle_unheld and error is None else ()
    told_of = [one for one in tried(*args) if tuple(one[:2]) not in held]
    told = {"worker": args[0], "tried": told_of, "refused": refused, "error": None if error is None else repr(error)}
    _line(f"wrote: {orjson.dumps(told).decode()}")


def _line(text: str) -> None:
    """In one write: handlers in threads speak at the same time."""
    os.write(1, f"{text}\n".encode())


def _stopping(verb: Any, cut: int) -> Any:
    """The verb, in whose transaction the process stops."""

    @functools.wraps(verb)
    def stopping(session: Session, *args: Any, **kwargs: Any) -> Any:
        numbers = itertools.count(1)

        def after(connection: sa.Connection, words: str) -> None:
            if connection is session.connection and next(numbers) == cut:
                _stop()

        statements.watch(lambda connection, words: None, after)
        answer = verb(session, *args, **kwargs)
        if cut == 0:
            _stop()
        return answer

    return stopping


def _stop() -> None:
    _line(f"stops at {time.time_ns() // 1000}")
    os.kill(os.getpid(), signal.SIGSTOP)


@click.command()
@click.argument("app")
@click.option("--database", envvar="FIBFLOW_DATABASE")
@click.option("--pod-id")
@click.option("--types", help="Serve these, separated by commas.")
@click.option("--hold", type=click.Path(path_type=Path))
@click.option("--cut", type=int)
@click.option("--lease", type=float, required=True)
@click.option("--drain", type=float, default=10)
def main(app: str, database: str, types: str, hold: Path, cut: int | None, **given: Any) -> None:
    """Serve some task types of APP until SIGTERM."""
    served = load(app)
    served.remove(set(served.handlers) - set(types.split(",")))
    settings = Settings(slots=50, poll_interval=0.2, heartbeat_interval=0.3, own_deadline=False, **given)
    asyncio.run(_serve(served, Watched(database, hold, cut), settings))
    os._exit(0)


async def _serve(app: App, database: Database, settings: Settings) -> None:
    check_schema(database)
    worker = Worker(app, database, settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await database.aclose()


if __name__ == "__main__":
    main()
