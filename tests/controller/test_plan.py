"""What a resource asks for, as values: rows, or why it gets none."""

import pytest

from fibflow.model import Options
from fibflow.scaling import Policy, Rule
from fibflow.store.figures import TypeFigures
from fibflow.store.synced import DeletionPolicy, Name, PoolRow, TypeRow
from fibflow.store.synced_crons import CronFigures
from fibflow_operator import plan, verdict
from fibflow_operator.reasons import Reason, Refusal, Type
from fibflow_operator.verdict import Standing
from fibflow_operator.world import Key, Kind, seen


def resource(kind, place="it", /, **spec):
    metadata = {"namespace": "shop", "name": place, "uid": "u", "resourceVersion": "5", "generation": 2}
    return seen({"kind": kind, "metadata": metadata, "spec": spec})


def cron(**spec):
    return resource("CronTask", **{"taskTypeRef": {"name": "work"}, "schedule": "0 3 * * *", **spec})


ASKED = {
    "app": "a:b",
    "slots": 4,
    "scaling": {
        "policy": "Backlog",
        "minReplicas": 2,
        "maxReplicas": 30,
        "targetWaitSeconds": 5,
        "scaleDownDelaySeconds": 6,
    },
}


def test_a_task_type_becomes_a_row():
    found = plan.type_row(resource("TaskType", "sizes", timeoutSeconds=5, retry={"maxAttempts": 2}), [], ())
    assert found == TypeRow(
        Name("shop", "sizes"), "sizes", Options(timeout=5, max_attempts=2), None, None, False, DeletionPolicy.DRAIN
    )


def test_a_worker_pool_becomes_a_row():
    assert plan.pool_row(resource("WorkerPool", app="a:b")) == PoolRow(Name("shop", "it"), "a:b", None, 10, 1, 30, Rule())


@pytest.mark.parametrize("kind, said", [("WorkerPool", ASKED), ("TaskType", {"worker": ASKED})])
def test_a_row_says_how_workers_are_scaled(kind, said):
    found = plan.pool_row(resource(kind, **said)) if kind == "WorkerPool" else plan.type_row(resource(kind, **said), [], ())
    assert not isinstance(found, Refusal) and found.rule == Rule(Policy.BACKLOG, 1, 2, 30, 4, 5.0, 6.0)


def test_a_cron_task_becomes_a_row():
    found = plan.cron_task_row(cron(payload={"b": 1, "a": 2}, suspend=True), "work_type")
    assert not isinstance(found, Refusal)
    assert (found.type, found.payload, found.suspended) == ("work_type", '{"b":1,"a":2}', True)


def nested(levels):
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        ({"schedule": "0 0 30 2 *"}, Reason.INVALID_SCHEDULE, "spec.schedule: "),
        ({"schedule": "often"}, Reason.INVALID_SCHEDULE, "spec.schedule: "),
        ({"payload": {"a": "\0"}}, Reason.INVALID_PAYLOAD, "spec.payload: "),
        ({"payload": {"a": "x" * (1 << 20)}}, Reason.INVALID_PAYLOAD, "spec.payload: "),
        ({"payload": {"a": "\ud800"}}, Reason.INVALID_PAYLOAD, "spec.payload: "),
        ({"payload": nested(65)}, Reason.PAYLOAD_TOO_DEEP, "spec.payload: is nested 65 levels"),
        ({"payload": nested(9000)}, Reason.PAYLOAD_TOO_DEEP, "spec.payload: is nested 9000 levels"),
        ({"payload": {"a": 10**400}}, Reason.INVALID_PAYLOAD, "spec.payload: "),
        ({"tag": " "}, Reason.INVALID_SPEC, "spec.tag: "),
        ({"tag": 5}, Reason.INVALID_SPEC, "spec.tag: "),
        ({"concurrencyPolicy": "Replace"}, Reason.INVALID_SPEC, "spec.concurrencyPolicy: "),
        ({"timeZone": "Europe/Berlin"}, Reason.UNKNOWN_FIELD, "spec.timeZone: "),
        ({"retry": {"jitter": 1}}, Reason.UNKNOWN_FIELD, "spec.retry.jitter: "),
        ({"timeoutSeconds": 10**30}, Reason.INVALID_SPEC, "spec.timeoutSeconds: "),
    ],
)
def test_a_spec_that_cannot_be_in_force_is_refused_with_the_field(spec, reason, field):
    found = plan.cron_task_row(cron(**spec), "work")
    assert isinstance(found, Refusal)
    assert (found.reason, found.message.startswith(field)) == (reason, True), found


def test_sixty_four_levels_are_allowed():
    assert not isinstance(plan.cron_task_row(cron(payload=nested(64)), "work"), Refusal)


def test_a_reference_to_no_type_is_refused():
    found = plan.cron_task_row(cron(), None)
    assert isinstance(found, Refusal) and found.reason is Reason.TASK_TYPE_NOT_FOUND and "'work'" in found.message


def test_the_older_of_two_types_of_one_name_wins():
    it, other = (Key(Kind.TASK_TYPE, "shop", name) for name in ("it", "other"))
    mine = resource("TaskType", name="same")
    assert not isinstance(plan.type_row(mine, [it, other], ()), Refusal)
    found = plan.type_row(mine, [other, it], ())
    assert isinstance(found, Refusal) and found.reason is Reason.NAME_CONFLICT and "'other'" in found.message


def test_a_pool_must_be_there():
    pooled = resource("TaskType", workerPoolRef={"name": "pool"})
    assert not isinstance(plan.type_row(pooled, [], ["pool"]), Refusal)
    found = plan.type_row(pooled, [], [])
    assert isinstance(found, Refusal) and found.reason is Reason.WORKER_POOL_NOT_FOUND


REFUSED = Refusal(Reason.INVALID_SPEC, "no")


@pytest.mark.parametrize(
    ("standing", "ready", "synced"),
    [
        (Standing(), (True, Reason.IN_FORCE), (True, Reason.STORED)),
        (Standing(REFUSED, stored=True), (False, Reason.INVALID_SPEC), (False, Reason.LAST_GOOD)),
        (Standing(REFUSED, stored=False), (False, Reason.INVALID_SPEC), (False, Reason.NOTHING_STORED)),
        (Standing(failure="away"), (False, Reason.DATABASE_UNAVAILABLE), (False, Reason.DATABASE_UNAVAILABLE)),
    ],
)
def test_ready_and_synced_tell_how_a_resource_stands(standing, ready, synced):
    for finding, (status, reason) in ((verdict.ready(standing), ready), (verdict.synced(standing), synced)):
        assert (finding.status, finding.reason) == (status, reason)


def figures(**more):
    return CronFigures(**{**dict(next_ticks=(1, 2, 3), last_tick=None, last_outcome=None, missed=0, active=0), **more})


@pytest.mark.parametrize(
    ("suspended", "found", "remembered", "reason"),
    [
        (False, figures(paused=False, paused_reason=None), None, Reason.NOT_PAUSED),
        (True, figures(paused=False, paused_reason=None), None, Reason.SUSPENDED),
        (True, figures(paused=True, paused_reason=None), None, Reason.PAUSED),
        (True, figures(paused=True, paused_reason="task 7 failed for good"), None, Reason.TICK_FAILED),
        (False, None, "task 7 failed for good", Reason.TICK_FAILED),
        (False, figures(paused=False, paused_reason=None), "task 7 failed for good", Reason.NOT_PAUSED),
    ],
)
def test_why_a_cron_task_is_paused(suspended, found, remembered, reason):
    finding = verdict.cron_paused(suspended, found, remembered, "it")
    assert finding.reason is reason and finding.status is (reason is not Reason.NOT_PAUSED)


def test_a_pause_after_a_failure_is_read_from_the_status_that_tells_of_it():
    finding = verdict.cron_paused(False, figures(paused=True, paused_reason="task 7 failed for good"), None, "it")
    said = {"type": "Paused", "status": "True", "reason": str(finding.reason), "message": finding.message}
    assert verdict.remembered_pause({"conditions": [said]}) == "task 7 failed for good"
    assert verdict.remembered_pause({"conditions": [said | {"reason": "Suspended"}]}) is None
    assert verdict.remembered_pause({}) is None


def test_a_cron_task_that_is_held_back_has_no_next_ticks():
    free = verdict.cron_counts(
        figures(paused=False, paused_reason=None, last_tick=0, last_outcome="completed"), held_back=False
    )
    assert free == {
        "active": 0,
        "missed": 0,
        "lastTickTime": "1970-01-01T00:00:00Z",
        "lastOutcome": "completed",
        "nextTickTimes": ["1970-01-01T00:00:00Z"] * 3,
    }
    assert "nextTickTimes" not in verdict.cron_counts(figures(paused=True, paused_reason=None), held_back=True)


def test_a_type_that_is_paused_at_run_time_says_so():
    finding = verdict.type_paused(False, TypeFigures(paused=True), "it")
    assert (finding.type, finding.status, finding.reason) == (Type.PAUSED, True, Reason.PAUSED)
