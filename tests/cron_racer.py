"""A worker that races for cron ticks and kills itself at a named moment: `python cron_racer.py URL POD MOMENT NTH`.

It says the moment on stdout and is gone by SIGKILL, in the middle of whatever it holds. A moment that is not one of these
never comes. Which moments there are is read off the statements that the store sends.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import sqlalchemy as sa

from fibflow import App, AsyncContext
from fibflow.store.database import Database, Session
from fibflow.store.session import in_words
from fibflow_worker.runtime import Settings, Worker
from fibflow_worker.serving import serve

MOMENTS = (
    "the row is locked",
    "the task is made",
    "the tick is recorded",
    "the row is moved on",
    "the decision is committed",
    "the task runs",
    "the task is settled",
    "the settle is committed",
)
SENT = {"INSERT INTO task (": "the row is locked"}
ANSWERED = {
    "INSERT INTO task (": "the task is made",
    "INSERT INTO cron_tick": "the tick is recorded",
    "UPDATE cron_task": "the row is moved on",
    "INSERT INTO task_final": "the task is settled",
}
COMMITTED = {"the row is moved on": "the decision is committed", "the task is settled": "the settle is committed"}


class Death:
    """Comes at the n-th time of one moment."""

    def __init__(self, moment: str, times: int) -> None:
        self.moment, self.times = moment, times

    def at(self, moment: str) -> None:
        self.times -= moment == self.moment
        if moment == self.moment and self.times == 0:
            os.write(1, moment.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """See what every connection of this process sends, and what has come back."""

        def sent(connection: sa.Connection, cursor: Any, statement: str, *rest: object) -> None:
            self._seen(connection, SENT, statement)

        def answered(connection: sa.Connection, cursor: Any, statement: str, *rest: object) -> None:
            self._seen(connection, ANSWERED, statement)

        def given_back(connection: Any, record: Any) -> None:
            self.at(record.info.pop("committed", ""))

        fetch = Session.fetch

        def fetched(session: Session, statement: Any, parameters: Any) -> Any:
            self._seen(session.connection, SENT, in_words(statement)[0])
            rows = fetch(session, statement, parameters)
            self._seen(session.connection, ANSWERED, in_words(statement)[0])
            return rows

        Session.fetch = fetched  # type: ignore[method-assign, assignment]
        sa.event.listen(sa.Engine, "before_cursor_execute", sent)
        sa.event.listen(sa.Engine, "after_cursor_execute", answered)
        sa.event.listen(sa.Pool, "checkin", given_back)

    def _seen(self, connection: sa.Connection, moments: dict[str, str], statement: str) -> None:
        plain = statement.replace("fibflow.", "").replace("main.", "")
        for words, moment in moments.items():
            if words in plain:
                connection.info["committed"] = COMMITTED.get(moment, connection.info.get("committed", ""))
                self.at(moment)


async def main(url: str, pod: str, moment: str, times: str) -> None:
    death, app = Death(moment, int(times)), App()
    death.watch()

    @app.task("tick")
    async def tick(ctx: AsyncContext) -> None:
        death.at("the task runs")

    settings = Settings(slots=4, pod_id=pod, poll_interval=0.1, heartbeat_interval=0.5, lease=30, drain=5)
    await serve(Worker(app, Database(url), settings))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
