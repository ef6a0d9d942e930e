"""A handler that never lets go of the CPU: the lease is renewed all the same, and its timeout is settled while it spins."""

import pytest

from fibflow import App, Client, Outcome, Status
from fibflow.store import leases
from fix_semantics import until
from spinning_app import spin, spin_in_the_loop

LEASE = {"heartbeat_interval": 0.2, "lease": 2.0}
"""A worker's transactions may stand still for a third of its lease, which a busy machine may take from it."""


@pytest.fixture(params=["loop", "thread", "process"])
def place(request):
    return request.param


@pytest.fixture
def spinning(workplace, place, tmp_path):
    """Starts a worker with a task that spins; the worker, the task's id, and the file that ends the spin."""
    begun, stop = tmp_path / "begun", tmp_path / "stop"

    def start(**options):
        app = App()
        function = spin_in_the_loop if place == "loop" else spin
        app.add("spin", function, run_in=place, max_attempts=1, **options)
        worker = workplace.start(app, **LEASE)
        task_id = workplace.client.enqueue("spin", {"begun": str(begun), "stop": str(stop)})
        until(begun.exists)
        return worker, task_id, stop

    yield start
    stop.touch()


def test_the_lease_is_renewed_while_a_handler_spins_for_longer_than_it(workplace, spinning):
    worker, task_id, stop = spinning(timeout=600)
    rival = workplace.database.call(leases.register, pod_id=None, host="rival", pid=1, slots=1, lease=600)
    begun = workplace.worker(worker.worker_id).renewed_at
    until(lambda: (workplace.worker(worker.worker_id).renewed_at - begun).total_seconds() > 2 * LEASE["lease"])
    assert workplace.database.call(leases.reap, rival) == []
    assert workplace.client.get(task_id).status is Status.RUNNING
    stop.touch()
    done = workplace.ended(task_id)
    assert (done.status, done.attempt, done.interruptions) == (Status.COMPLETED, 1, 0)


def test_its_timeout_is_settled_while_it_spins(workplace, spinning, place):
    _, task_id, stop = spinning(timeout=5 if place == "process" else 0.5)  # a process must begin first
    done = Client(workplace.database).get(until(lambda: _timed_out(workplace.client, task_id)))
    assert not stop.exists(), "it no longer spins"
    assert (done.status, done.last_outcome) == (Status.PERMANENTLY_FAILED, Outcome.TIMEOUT)
    assert done.started_at is not None and done.finished_at is not None
    late = (done.finished_at - done.started_at).total_seconds() - done.timeout
    assert late < 2 + 2 * LEASE["heartbeat_interval"] + 1, "the grace, a beat, and what a busy machine takes"


def _timed_out(client, task_id):
    return task_id if client.get(task_id).last_outcome is Outcome.TIMEOUT else None
