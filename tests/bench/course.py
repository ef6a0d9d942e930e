"""Where contestants run: one server, how long to measure, and the rule that they take turns.

It knows no contestant's inside: `lap` calls them by name. Every lap has a new database; tables are analysed and the
log is flushed before a backlog is drained, for all alike, so that nobody is measured on the planner's first guess.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from bench import lap
from bench.lap import NotYet
from bench.server import Server

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Course:
    server: Server
    quick: bool
    say: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def in_turns(self, rounds: int, runners: Mapping[str, Callable[[], Result]]) -> dict[str, list[Result]]:
        """Each runner's results, none if it is not there yet; every other round goes backwards, against drift."""
        results: dict[str, list[Result]] = {name: [] for name in runners}
        for turn in range(rounds):
            for name in list(runners)[:: -1 if turn % 2 else 1]:
                self.say(f"round {turn + 1} of {rounds}: {name}")
                with suppress(NotYet):
                    results[name].append(runners[name]())
        return results

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
