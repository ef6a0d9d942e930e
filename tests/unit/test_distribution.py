"""What the wheel carries beside the modules, and what the source tree offers in its place."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fibflow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel built from this tree."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = place.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def _tree(root: Path, prefix: str) -> set[str]:
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{prefix}/{path.relative_to(root).as_posix()}" for path in files}


def test_the_wheel_carries_the_two_programs_and_the_library(wheel):
    assert {"fibflow/__init__.py", "fibflow_worker/__init__.py", "fibflow_operator/__init__.py"} <= wheel
    assert {name.split("/")[0] for name in wheel if ".dist-info" not in name} == {
        "fibflow",
        "fibflow_operator",
        "fibflow_worker",
    }


def test_the_wheel_carries_the_schemas_and_the_migrations(wheel):
    assert _tree(ROOT / "crds", "fibflow/crds") <= wheel
    assert _tree(ROOT / "worker/fibflow/store", "fibflow/store") <= wheel


def test_the_source_tree_has_the_schemas_two_folders_up():
    assert (Path(fibflow.__file__).parent / "../../crds").is_dir()


WITHOUT_PSYCOPG = """
import asyncio, sys
sys.modules["psycopg"] = None
import fibflow.cli, fibflow.dev
from fibflow import App, Client
from fibflow.errors import InvalidInput
from fibflow.store.database import Database
from fibflow_worker.runtime import Worker

app = App()
database = Database("sqlite://")
client = Client(database)
client.migrate()
worker = Worker(app, database)

@app.task("work")
async def work(ctx, payload):
    worker.stop()

app.sync(database)
task_id = client.enqueue("work")
asyncio.run(asyncio.wait_for(worker.run(), 30))
assert client.get(task_id).status == "completed", client.get(task_id)
try:
    Client("postgresql://me@127.0.0.1/none")
except InvalidInput as refused:
    assert "pip install 'fibflow[postgres]'" in str(refused), refused
else:
    raise AssertionError("a database was opened without its driver")
"""


def test_sqlite_needs_no_driver_of_postgresql_and_postgresql_tells_what_to_install():
    subprocess.run([sys.executable, "-c", WITHOUT_PSYCOPG], check=True, timeout=60)
