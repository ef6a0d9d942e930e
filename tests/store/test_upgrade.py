"""An upgrade in two steps: what is added does not trouble the code that is there, what is taken away waits for the next.

The next two versions are copies of this tree, changed as tests/e2e/upgrade/change.py says; they run as processes, and
this process is the former version.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fibflow.errors import SchemaMismatch
from fibflow.store.database import Database
from fibflow.store.schema import check_schema
from fix_by_hand import Hand

ROOT = Path(__file__).parents[2]
CHANGE = ROOT / "tests" / "e2e" / "upgrade" / "change.py"
REGISTER = """
import sys
from fibflow.store import leases
from fibflow.store.database import Database

database = Database(sys.argv[1])
database.call(leases.register, pod_id=None, host=sys.argv[2], pid=1, slots=1, lease=3600)
database.close()
"""
OFTEN = 12
"""Times after which the driver has prepared every statement on the server."""


@dataclass
class Version:
    """A version of the code, in a folder of its own, and the database that it works on."""

    folder: Path
    url: str

    def run(self, *command: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "FIBFLOW_DATABASE": self.url}
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hosts(self) -> set[str]:
        """Where this version reads that workers run."""
        return {each["host"] for each in json.loads(self.run("-m", "fibflow", "workers", "--output", "json"))}

    def register(self, host: str) -> None:
        """Enter a worker."""
        self.run("-c", REGISTER, self.url, host)


@pytest.fixture
def hand(postgres_url):
    """A worker of this version."""
    database = Database(postgres_url)
    yield Hand(database)
    database.close()


@pytest.fixture
def versions(tmp_path, postgres_url):
    """The version that expands, and the one that contracts."""
    made = {"expand": Version(tmp_path / "expand", postgres_url), "contract": Version(tmp_path / "contract", postgres_url)}
    shutil.copytree(ROOT / "worker", made["expand"].folder)
    made["expand"].run(str(CHANGE), "expand")
    shutil.copytree(made["expand"].folder, made["contract"].folder)
    made["contract"].run(str(CHANGE), "contract")
    return made.values()


def _work(hand):
    """Every statement that a worker needs, until the driver has prepared them."""
    for _ in range(OFTEN):
        row = hand.take()
        hand.report(row, text="half of it")
        hand.fail(row)
        hand.complete(hand.again(row.id))


def test_old_code_works_on_an_expanded_schema_and_never_on_a_contracted_one(versions, hand):
    expanding, contracting = versions
    _work(hand)
    under_way = hand.take()

    expanding.run("-m", "fibflow", "migrate")
    hand.complete(under_way)
    _work(hand)
    check_schema(hand.database)
    hand.register()
    expanding.register("of the new")
    assert {each.host for each in hand.client.workers()} == expanding.hosts() == {"host", "of the new"}

    contracting.run("-m", "fibflow", "migrate")
    contracting.register("of the newest")
    assert expanding.hosts() == contracting.hosts() == {"host", "of the new", "of the newest"}
    with pytest.raises(SchemaMismatch, match=r"has schema \d+, too new for fibflow .*: install fibflow .* or newer"):
        check_schema(hand.database)
    tasks = hand.client.tasks(limit=1000).items
    assert {task.status for task in tasks} == {"completed"} and len(tasks) == 2 * OFTEN + 1
