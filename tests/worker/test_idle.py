"""A worker with nothing to do costs next to nothing: measured on the program as users start it, over ten seconds."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil
import pytest

from fibflow import Client
from fibflow.store.migrate import migrate
from postgres_server import Server

APP = """
from fibflow import App
app = App()

@app.task("noop")
async def noop(ctx, payload):
    return {"ok": True}
"""
WINDOW = 10.0
"""Seconds of idling that are measured, two heartbeats of the default interval among them."""
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Idling:
    share_of_a_core: float
    resident: int


@pytest.fixture(scope="module")
def idling(tmp_path_factory, postgres_server: Server, postgres_template: str):
    """What idle workers cost, by the kind of their database; both are measured in the same window."""
    folder = tmp_path_factory.mktemp("idle")
    (folder / "idle_app.py").write_text(APP)
    urls = {"sqlite": f"sqlite:///{folder / 'fibflow.db'}", "postgresql": postgres_server.create("idle", postgres_template)}
    migrate(urls["sqlite"])
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(_worker(url, folder)) for kind, url in urls.items()}
        before = {kind: _spent(worker) for kind, worker in workers.items()}
        time.sleep(WINDOW)  # idling is what is measured: there is nothing to wait for
        yield {kind: Idling((_spent(of) - before[kind]) / WINDOW, _resident(of)) for kind, of in workers.items()}
    postgres_server.drop("idle")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_idle_worker_uses_less_than_a_hundredth_of_a_core(idling, kind):
    assert idling[kind].share_of_a_core < 0.01


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_idle_worker_uses_less_than_100_mib(idling, kind):
    assert idling[kind].resident < 100 * MEBIBYTE


@contextmanager
def _worker(url, folder):
    """The program, once it has registered and its first, busier second is over."""
    command = [sys.executable, "-m", "fibflow", "--database", url, "worker", "idle_app:app"]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(folder)})
    try:
        _wait_for_a_renewal(url, child)
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        assert child.wait(20) == 0


def _wait_for_a_renewal(url, child):
    client = Client(url)
    deadline = time.monotonic() + 30
    while not any(worker.renewed_at > worker.registered_at for worker in client.workers()):
        assert child.poll() is None and time.monotonic() < deadline, "the worker did not renew its lease"
        time.sleep(0.1)
    client.close()


def _family(worker):
    return [worker, *worker.children(recursive=True)]


def _spent(worker):
    """Seconds of CPU time so far, in user and system mode, of the program and what it started."""
    return sum(sum(process.cpu_times()[:2]) for process in _family(worker))


def _resident(worker):
    return sum(process.memory_info().rss for process in _family(worker))
