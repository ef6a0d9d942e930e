"""The error tree. Every message names what was wrong, with which value, and the way out.

FibflowError
├── InvalidInput          a field is wrong; nothing was stored
│   ├── UnknownTaskType   no such task type in this namespace
│   │   └── TaskTypeDraining  its TaskType was deleted: it takes no new tasks
│   ├── InvalidManifest   a resource file that breaks its schema
│   └── InvalidSchedule   a schedule that is not cron, or can never fire (cron_text.py)
├── NotFound              no such task, task type, cron task or worker
├── IllegalTransition     a verb that the task's status does not allow
├── LeaseLost             a write for an attempt that its worker no longer owns
├── WorkerLost            this worker was reaped or superseded
├── PodFenced             this worker's pod is gone for good, though its process runs
├── LeadLost              a write of an operator that does not lead (any more)
├── OtherInstallation     the database serves another installation
├── AppImportError        the application module does not import
├── ChildError            a handler raised in its process (fibflow_worker/processes.py)
├── ChildDied             the process that ran a handler ended (the same)
└── DatabaseError
    ├── DatabaseUnavailable   not there, or gone
    ├── DatabaseDamaged       the file of a SQLite database holds what was never written
    ├── OutcomeUnknown        the answer to a commit was lost
    └── SchemaMismatch        migrations are missing, or newer than this code

HandlerSignal             what a handler may raise to choose what follows
├── Retry                 fail this attempt, be due again after so many seconds
└── PermanentError        fail without another attempt
"""

from __future__ import annotations

import re
from collections.abc import Callable

LONGEST_DURATION = 100 * 365 * 24 * 3600
"""Seconds of the longest delay, timeout or backoff."""


class FibflowError(Exception):
    """The root of what fibflow raises."""


class InvalidInput(FibflowError, ValueError):
    """A field is wrong; nothing was stored."""

    def __init__(self, field: str, value: object, way_out: str) -> None:
        super().__init__(f"{field}: {shown(value)} {way_out}")
        self.field = field


class UnknownTaskType(InvalidInput):
    """No such task type in this namespace."""

    def __init__(self, name: object, namespace: str) -> None:
        super().__init__(
            "type",
            name,
            f"is not a task type of namespace {namespace!r}; start a worker that has its handler, "
            "call App.sync(), or apply a TaskType",
        )


class TaskTypeDraining(UnknownTaskType):
    """The type's TaskType was deleted: what exists may finish, nothing new is taken."""

    def __init__(self, name: object, namespace: str) -> None:
        way_out = f"takes no new tasks: its TaskType in namespace {namespace!r} was deleted; apply it again"
        InvalidInput.__init__(self, "type", name, way_out)


class InvalidManifest(InvalidInput):
    """A resource file that breaks its schema."""


class NotFound(FibflowError, LookupError):
    """No such task, task type, cron task or worker."""

    def __init__(self, what: str, name: object, namespace: str) -> None:
        way_out = f"see `{LISTED_BY[what]}`, or give the --namespace that has it"
        super().__init__(f"there is no {what} {one_line(name)} in namespace {shown(namespace)}; {way_out}")


LISTED_BY = {
    "task": "fibflow list",
    "task type": "fibflow types",
    "cron task": "fibflow cron list",
    "active worker": "fibflow workers",
}


class IllegalTransition(FibflowError):
    """A verb that the task's status does not allow."""

    def __init__(self, verb: str, status: str, target: str, detail: str = "") -> None:
        super().__init__(f"cannot {verb}: a task that is {status} does not become {target}{detail}")
        self.status, self.target = status, target


class LeaseLost(FibflowError):
    """A write for an attempt that its worker no longer owns; nothing of it was stored."""

    def __init__(self, task_id: int, fence: int, verb: str) -> None:
        super().__init__(f"{verb} refused: attempt {fence} of task {task_id} has another owner or has ended")
        self.task_id, self.fence, self.verb = task_id, fence, verb


class WorkerLost(FibflowError):
    """This worker was reaped or superseded: it may not claim, renew or write any more."""


class PodFenced(FibflowError):
    """The pod is known to be gone: whatever still runs in it may register no more."""

    def __init__(self, pod_uid: str) -> None:
        super().__init__(
            f"pod {shown(pod_uid)} was deleted or has failed, and its tasks went to others: this process is to end"
        )


class LeadLost(FibflowError):
    """A write of an operator that does not lead (any more); nothing of it was stored."""

    def __init__(self, holder: str, epoch: int) -> None:
        super().__init__(f"write refused: {holder} does not lead under epoch {epoch}")


class OtherInstallation(FibflowError):
    """The database serves another installation."""

    def __init__(self, own: str, stored: str) -> None:
        super().__init__(
            f"the database serves the installation {shown(stored)} and not {shown(own)}: give each its own database, "
            "or start this operator with the id that is stored"
        )


class AppImportError(FibflowError):
    """The application module does not import."""


class DatabaseError(FibflowError):
    """The database could not do what was asked."""


class DatabaseUnavailable(DatabaseError):
    """The database is not there, or went away before anything was decided."""


class DatabaseDamaged(DatabaseError):
    """The file of a SQLite database holds what was never written there: it was overwritten, cut, or lies on a bad disk."""

    def __init__(self, url: str, found: str) -> None:
        super().__init__(f"{url} is damaged ({found}): restore its file from a copy")


class OutcomeUnknown(DatabaseError):
    """The connection broke after COMMIT was sent: it may have happened or not. Look before you repeat."""


class SchemaMismatch(DatabaseError):
    """The database's schema is missing, older than this code needs, or newer than it knows."""


class HandlerSignal(Exception):
    """What a handler may raise to choose what follows."""


class Retry(HandlerSignal):
    """Fail this attempt and be due again after `after` seconds (None: the task's own backoff)."""

    def __init__(self, message: str = "retry asked for", *, after: float | None = None) -> None:
        if after is not None and not _is_duration(after):
            raise InvalidInput("after", after, f"is not a number of seconds from 0 to {LONGEST_DURATION}")
        super().__init__(message)
        self.after = after


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= LONGEST_DURATION


class PermanentError(HandlerSignal):
    """Fail the task without another attempt."""


def shown(value: object) -> str:
    """A value as an error message shows it: one line, at most 80 characters, nothing a terminal would obey."""
    text = one_line(value, repr)
    return text if len(text) <= 80 else text[:77] + "..."


def one_line(value: object, render: Callable[[object], str] = str) -> str:
    """A value as text on one line, with nothing in it that a terminal would obey. Never raises."""
    try:
        text = render(value)
    except Exception as error:  # an application's own __repr__ or __str__
        text = f"<{type(value).__name__} whose {render.__name__} raises {type(error).__name__}>"
    return "".join(char if char.isprintable() else " " for char in text).strip()


HEAD = "Traceback (most recent call last):\n"
MARGIN = re.compile(r"^ *(?:\+-.*\n|\| )", re.MULTILINE)
"""What a group of errors draws before the lines of each, and between them."""


def gist(error: str) -> str:
    """What the text of an error says in a line: what stands below the frames of its last traceback, else its last line."""
    text = MARGIN.sub("", error.strip() + "\n") if f"Exception Group {HEAD}" in error else error.strip()
    lines = text.rpartition(HEAD)[2].splitlines() or [""]
    below = next((line for line in lines if line and not line.startswith(" ")), "")
    return below if HEAD in text and below and not below.startswith("... ") else lines[-1]


WAYS_OUT = {
    "authentication failed": "correct the user and the password in its URL",
    "no password supplied": "correct the user and the password in its URL",
    '" does not exist': "create it, or correct its URL",
    "database is locked": "wait until the program that holds it has ended",
    "disk is full": "make room",
    "readonly database": "see to it that this user may write the file and its folder",
    "unable to open database file": "see to it that this user may write the file and its folder",
}
"""What mends a database that is there and cannot be used, by what its driver says of it."""


def sentence(error: FibflowError) -> str:
    """What a program says when it ends with this error: the field, the value and the way out."""
    if isinstance(error, DatabaseUnavailable):
        said = str(error)
        way_out = next((way for fault, way in WAYS_OUT.items() if fault in said), "start it")
        return f"database: {said}; {way_out}, or name another with --database"
    if isinstance(error, DatabaseDamaged):
        return f"database: {error}, or name another with --database"
    return f"database: {error}" if isinstance(error, DatabaseError) else str(error)
