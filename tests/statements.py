"""What this process sends to its databases, statement by statement: through SQLAlchemy, and by `Session.fetch` past it."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from fibflow.store.session import Session, in_words

Seen = Callable[[sa.Connection, str], None]


def watch(sent: Seen, answered: Seen) -> None:
    """From now on, call these before a statement is sent and after it was answered, with its connection and its words."""
    fetch = Session.fetch

    def fetched(session: Session, statement: Any, parameters: Any) -> Any:
        words, _ = in_words(statement)
        sent(session.connection, words)
        rows = fetch(session, statement, parameters)
        answered(session.connection, words)
        return rows

    Session.fetch = fetched  # type: ignore[method-assign, assignment]
    sa.event.listen(sa.Engine, "before_cursor_execute", lambda connection, cursor, words, *rest: sent(connection, words))
    sa.event.listen(sa.Engine, "after_cursor_execute", lambda connection, cursor, words, *rest: answered(connection, words))
