"""Where faults happen: fresh databases of both kinds, how large a run is, and the seed of everything that is drawn."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fibflow.store.database import Database
from fibflow.store.migrate import migrate
from postgres_server import Server

POSTGRESQL, SQLITE = "PostgreSQL", "SQLite"


@dataclass(frozen=True, slots=True)
class Course:
    server: Server
    seed: int
    quick: bool
    say: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def place(self, kind: str) -> Iterator["Place"]:
        """A migrated database, and a folder; both are gone when the block is left."""
        with tempfile.TemporaryDirectory(prefix="fibflow-faults-") as folder:
            url = self.server.create("faults") if kind == POSTGRESQL else f"sqlite:///{folder}/fibflow.db"
            migrate(url)
            database = Database(url)
            try:
                yield Place(kind, url, database, Path(folder))
            finally:
                database.close()
                if kind == POSTGRESQL:
                    self.server.drop("faults")


@dataclass(frozen=True, slots=True)
class Place:
    kind: str
    url: str
    database: Database
    folder: Path
