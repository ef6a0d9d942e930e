"""Where contestants run: one private server, how long to measure, and the rule that they take turns.

It knows no contestant's inside: `lap` calls them by name. Every lap has a new database; tables are analysed and the
log is flushed before a backlog is drained, for all alike, so that nobody is measured on the planner's first guess.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from bench import lap
from bench.lap import Absent
from postgres_server import Server

Result = TypeVar("Result")

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "jit": "off",
}
"""As durable as in production; large enough that nobody is measured on a server sized for tests."""


class Length(Enum):
    """How long to measure: for figures, for an impression, or only to see that everything runs."""

    FULL = "full"
    QUICK = "quick"
    TINY = "tiny"


@dataclass(frozen=True, slots=True)
class Course:
    server: Server
    length: Length
    say: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        """An amount of work: of tasks, of seconds."""
        return {Length.FULL: full, Length.QUICK: quick, Length.TINY: quick // 20}[self.length]

    def rounds(self, full: int, quick: int) -> int:
        return {Length.FULL: full, Length.QUICK: quick, Length.TINY: 1}[self.length]

    def in_turns(self, rounds: int, runners: Mapping[str, Callable[[], Result]]) -> dict[str, list[Result]]:
        """Each runner's results, none if it is not installed; every other round goes backwards, against drift."""
        results: dict[str, list[Result]] = {name: [] for name in runners}
        here = dict(runners)
        for turn in range(rounds):
            for name in list(here)[:: -1 if turn % 2 else 1]:
                self.say(f"round {turn + 1} of {rounds}: {name}")
                try:
                    results[name].append(here[name]())
                except Absent as absent:
                    del here[name]
                    self.skipped(name, absent)
        return results

    def skipped(self, name: str, absent: Absent) -> None:
        self.say(f"skipped {name}: {absent}; `make bench` installs it")

    @contextmanager
    def database(self, contestant: str, name: str = "bench") -> Iterator[str]:
        """The address of a new database that the contestant has set up, dropped afterwards."""
        url = self.server.create(name)
        try:
            lap.run(contestant, "setup", url=url)
            yield url
        finally:
            self.server.drop(name)

    @contextmanager
    def backlog(self, contestant: str, n: int, **arguments: int) -> Iterator[str]:
        """A database with `n` tasks queued and everything on disk."""
        with self.database(contestant) as url:
            lap.run(contestant, "enqueue_bulk", url=url, n=n, size=1000, **arguments)
            self.server.sql("ANALYZE", "bench")
            self.server.sql("CHECKPOINT")
            yield url
