"""A process that lost its lease comes back under a new id, and may not settle what it ran under the old one."""

import pytest

from fibflow.client import Client
from fibflow.errors import LeaseLost
from fibflow.lifecycle import Facts, after_failure, ended
from fibflow.model import NewTask, Outcome, Status
from fibflow.store import claim, leases, record, settle
from fibflow.store.ending import Ending
from fibflow.store.tasktypes import Declaration, declare_types


@pytest.fixture
def left_running(database):
    """A task that runs under a superseded worker, whose work nobody takes back, and that worker's new identity."""
    type_id = database.call(declare_types, [Declaration("work")])["work"]
    place = {"pod_id": "pod", "host": "host", "pid": 1, "slots": 1, "lease": 30.0}
    old = database.call(leases.register, **place)
    task_id = Client(database).enqueue("work")
    (row,) = database.call(claim.claim, old, [claim.Lane(type_id, 1)], 1)
    new = database.call(leases.register, **place, recover=False)
    return task_id, row.attempt, old, new


REASON = {Outcome.FAILED: None, Outcome.SUSPENDED: "approval"}


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.SUSPENDED])
def test_a_new_identity_may_not_settle_for_the_old_one(database, left_running, outcome):
    task_id, fence, old, new = left_running
    after = ended(Facts(), outcome) if outcome is Outcome.SUSPENDED else after_failure(Facts())
    refused = database.call(settle.settle, new, [Ending(task_id, fence, old, outcome, after, suspend_reason=REASON[outcome])])
    assert [type(refusal) for refusal in refused] == [LeaseLost]
    assert Client(database).get(task_id).status is Status.RUNNING


def test_a_new_identity_may_not_spawn_for_the_old_one(database, left_running):
    task_id, fence, old, new = left_running
    ending = Ending(task_id, fence, old, Outcome.SUSPENDED, ended(Facts(), Outcome.SUSPENDED), children=1)
    refused = database.call(record.spawn, new, ending, [NewTask("work")])
    assert [type(refusal) for refusal in refused] == [LeaseLost]
    assert Client(database).get(task_id).status is Status.RUNNING
