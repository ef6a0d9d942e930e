"""The operator on a real cluster: what is applied is a row at once, what is wrong is said, what is deleted goes.

Its processes run under their own rights behind the fault proxy (planes.py). Faults of the API server and of the database
are in test_outages.py, several operators in test_leaders.py.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

from cluster.faults import Answer, Cut
from cluster.waiting import until
from e2e.figures import record
from e2e.planes import FULL, cron_task, quiet, resource, task_type
from fibflow.client import Client
from fibflow.errors import TaskTypeDraining

TYPE_ROW = "SELECT timeout FROM fibflow.task_type WHERE resource = %s"
CRON_ROW = "SELECT schedule FROM fibflow.cron_task WHERE name = %s"
CRONS = "SELECT count(*) FROM fibflow.cron_task"


@pytest.fixture
def synced(plane):
    """An operator that has synced a TaskType `work`."""
    plane.apply(task_type("work", timeoutSeconds=5))
    plane.start()
    plane.wait_condition("TaskType", "work", status="True", seconds=30)
    return plane


# ── K2 ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Seen:
    """When rows of cron tasks were first seen to be committed, by a connection that looks all the time."""

    def __init__(self, url: str) -> None:
        self.at: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(url,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._end.set()
        self._thread.join()

    def _look(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not self._end.wait(0.002):
                for (name,) in connection.execute("SELECT name FROM fibflow.cron_task WHERE name LIKE 'timed-%%'"):
                    self.at.setdefault(name, time.monotonic())


def test_what_is_applied_is_a_row_within_a_blink(synced):
    there = [cron_task(f"there-{number}") for number in range(100)]
    synced.apply(*there)
    synced.wait_sql(100, CRONS, seconds=30)
    synced.wait_condition("CronTask", "there-99", status="True")
    names = [f"timed-{number}" for number in range(100 if FULL else 20)]
    answered = {}
    with Seen(synced.url) as seen:
        for name in names:
            synced.create("CronTask", cron_task(name))
            answered[name] = time.monotonic()
            until(partial(seen.at.__contains__, name), 20, f"{name} is a row")
    delays = sorted(max(seen.at[name] - answered[name], 0.0) for name in names)
    p99 = delays[min(len(delays) - 1, round(len(delays) * 0.99))]
    met = record("K2", "the API's answer to the committed row, p50, p99", delays, 0.1, 0.3, p99=round(p99, 3))
    assert met or (not FULL and delays[len(delays) // 2] < 1), delays


# ── K1 ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_start_on_many_resources_settles_and_then_writes_nothing(plane):
    many = 10_000 if FULL else 300
    plane.apply(task_type("work"))
    _create_many(plane, many)
    begin = time.monotonic()
    operator = plane.start()
    plane.wait_sql(many, CRONS, seconds=120)
    rows = time.monotonic() - begin
    # The type's, too. To count them takes the process in which the proxy runs.
    until(lambda: len(_statuses(plane)) > many, 240, f"{many} statuses are written", step=0.5)
    statuses = time.monotonic() - begin
    megabytes = operator.memory / 2**20
    # A session tells the server's statistics of its last writes up to 10 seconds after them.
    until(lambda: quiet(lambda: (plane.rows_written(), len(plane.api_writes())), 11), 90, "it settles")
    plane.statements()
    assert quiet(lambda: (plane.rows_written(), len(plane.api_writes())), 60 if FULL else 12)
    assert plane.statements() == []
    met = [
        record("K1 rows", f"all rows of {many} CronTasks", [rows], 15),
        record("K1 statuses", f"all statuses of {many} CronTasks", [statuses], 60),
        record("K1 memory", f"resident MiB with {many} CronTasks", [megabytes], 300),
    ]
    assert all(met), (rows, statuses, megabytes)


def _statuses(plane):
    return {(call.resource, call.name) for call in plane.api_writes() if call.resource.endswith("/status")}


def _create_many(plane, many: int) -> None:
    # No schedule of theirs is due while it is looked whether anything is written.
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda number: plane.create("CronTask", cron_task(f"many-{number}", payload={"n": number})), range(many)
            )
        )


# ── what cannot be in force ───────────────────────────────────────────────────────────────────────────────────────


SAMPLES = 10 if FULL else 3


def cleared(plane, kind: str, name: str, begin: float | None = None) -> float:
    """Seconds until a status shows that nothing is wrong any more, from the API's answer on, which is now or was then."""
    begin = time.monotonic() if begin is None else begin
    plane.wait_condition(kind, name, status="True", seconds=20)
    return time.monotonic() - begin


def noted(what: str, took: list[float]) -> bool:
    """Note it, and whether it is within its second; of a short run on a busy machine one must be."""
    return record(f"Cleared {what}", f"a {what} is mended, until the status shows it", took, 1.0) or (
        not FULL and min(took) <= 1.0
    )


def test_a_schedule_that_never_comes_is_said_and_mending_it_clears_it_within_a_second(synced):
    synced.apply(cron_task("never", schedule="0 0 30 2 *"))
    said = synced.wait_condition("CronTask", "never", status="False", reason="InvalidSchedule")
    assert "can never fire" in said["message"]
    assert synced.condition("CronTask", "never", "Synced")["reason"] == "NothingStored"
    assert synced.sql(CRON_ROW, "never") == []
    took = []
    for day in range(1, 1 + SAMPLES):
        synced.change("CronTask", "never", schedule="0 0 30 2 *")
        synced.wait_condition("CronTask", "never", status="False")
        synced.change("CronTask", "never", schedule=f"0 0 {day} 2 *")
        took.append(cleared(synced, "CronTask", "never"))
        assert synced.sql(CRON_ROW, "never") == [(f"0 0 {day} 2 *",)]
    assert noted("schedule", took), took


def test_the_last_good_row_stays_in_force(synced):
    synced.apply(cron_task("nightly", schedule="0 3 * * *"))
    synced.wait_condition("CronTask", "nightly", status="True")
    synced.apply(cron_task("nightly", schedule="61 3 * * *"))
    synced.wait_condition("CronTask", "nightly", status="False", reason="InvalidSchedule")
    assert synced.condition("CronTask", "nightly", "Synced")["reason"] == "LastGoodInForce"
    assert synced.sql(CRON_ROW, "nightly") == [("0 3 * * *",)]


def test_a_reference_to_nothing_is_said_and_cleared_within_a_second_when_it_appears(synced):
    took = []
    for number in range(SAMPLES):
        synced.create("CronTask", cron_task(f"early-{number}", f"later-{number}"))
        said = synced.wait_condition("CronTask", f"early-{number}", status="False", reason="TaskTypeNotFound")
        assert f"'later-{number}'" in said["message"]
        synced.create("TaskType", task_type(f"later-{number}"))
        took.append(cleared(synced, "CronTask", f"early-{number}"))
    assert noted("reference", took), took


def test_a_pool_that_is_not_there_is_said_and_cleared_within_a_second_when_it_appears(synced):
    took = []
    for number in range(SAMPLES):
        synced.create("TaskType", task_type(f"pooled-{number}", workerPoolRef={"name": f"pool-{number}"}))
        synced.wait_condition("TaskType", f"pooled-{number}", status="False", reason="WorkerPoolNotFound")
        synced.create("WorkerPool", resource("WorkerPool", f"pool-{number}", app="a:b"))
        took.append(cleared(synced, "TaskType", f"pooled-{number}"))
    assert synced.sql("SELECT app, slots FROM fibflow.worker_pool") == [("a:b", 10)] * SAMPLES
    assert noted("reference to a pool", took), took


def test_of_two_types_of_one_name_the_older_wins_and_the_other_takes_over_within_a_second_when_it_goes(synced):
    took = []
    for number in range(SAMPLES):
        first, second, name = f"first-{number}", f"second-{number}", f"same-{number}"
        synced.create("TaskType", task_type(first, name=name, timeoutSeconds=1))
        synced.wait_condition("TaskType", first, status="True")
        synced.create("TaskType", task_type(second, name=name, timeoutSeconds=2))
        synced.wait_condition("TaskType", second, status="False", reason="NameConflict")
        named = "SELECT resource FROM fibflow.task_type WHERE name = %s"
        assert synced.sql(named, name) == [(first,)]
        begin = time.monotonic()  # kubectl ends a while after the answer
        synced.delete("TaskType", first)
        took.append(cleared(synced, "TaskType", second, begin))
        assert synced.sql(named, name) == [(second,)]
    assert noted("conflict of names", took), took


def test_a_payload_of_nine_thousand_levels_stops_nobody_else(synced):
    _create_deep(synced, "deep", 500)
    _create_deep(synced, "deeper", 9_000)
    for name, levels in (("deep", 500), ("deeper", 9_000)):
        reason = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}=PayloadTooDeep"
        synced.cluster.wait(reason, f"crontask/{name}", namespace=synced.namespace, seconds=20)
        message = synced.cluster.field(".status.conditions[0].message", f"crontask/{name}", namespace=synced.namespace)
        assert f"nested {levels} levels deep" in message
    synced.apply(cron_task("after"))
    synced.wait_condition("CronTask", "after", status="True")
    again = synced.start()  # a start reads it in a list, not in an event
    synced._started[0].end()
    synced.apply(cron_task("after-restart"))
    synced.wait_condition("CronTask", "after-restart", status="True")
    assert again.running


def _create_deep(plane, name: str, levels: int) -> None:
    """As text: no encoder of ours takes it."""
    head = f'{{"apiVersion":"fibflow.dev/v1alpha1","kind":"CronTask","metadata":{{"name":"{name}"}},"spec":'
    spec = '{"taskTypeRef":{"name":"work"},"schedule":"0 3 * * *","payload":' + '{"a":' * levels + "1" + "}" * levels + "}"
    path = f"/apis/fibflow.dev/v1alpha1/namespaces/{plane.namespace}/crontasks"
    plane.cluster.kubectl("create", "--raw", path, "-f", "-", text=head + spec + "}")


HOSTILE = ["'; DROP SCHEMA fibflow CASCADE; --", "!!python/object:os.system", "\x1b[2Jgone", "\u202egnihtemos", "💥" * 50]


def test_hostile_text_is_stored_as_it_is_or_refused(synced):
    for number, text in enumerate(HOSTILE):
        synced.create("TaskType", task_type(f"hostile-{number}", name=text, description=text))
        synced.create("CronTask", cron_task(f"hostile-{number}", f"hostile-{number}", tag=text, payload={text: [text]}))
        synced.create("CronTask", cron_task(f"refused-{number}", text, schedule=text))
    for number, text in enumerate(HOSTILE):
        synced.wait_condition("CronTask", f"hostile-{number}", status="True")
        assert synced.sql("SELECT tag FROM fibflow.cron_task WHERE name = %s", f"hostile-{number}") == [(text,)]
        said = synced.wait_condition("CronTask", f"refused-{number}", status="False")
        assert said["message"].isprintable()
    synced.create("CronTask", cron_task("nul", payload={"a": "x\0"}))
    synced.wait_condition("CronTask", "nul", status="False", reason="InvalidPayload")


# ── who else writes ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_status_that_somebody_edited_is_put_right(synced):
    before = synced.get("TaskType", "work")["status"]
    wrong = '{"status": {"conditions": [], "pending": 99, "observedGeneration": 77}}'
    arguments = ("--subresource=status", "--type=merge", "--patch", wrong)
    synced.cluster.kubectl("patch", "--namespace", synced.namespace, "tasktype", "work", *arguments)
    until(lambda: synced.get("TaskType", "work")["status"].get("pending") == 0, 20, "the status is put right")
    after = synced.get("TaskType", "work")["status"]
    assert after["observedGeneration"] == before["observedGeneration"]
    assert [each["type"] for each in after["conditions"]] == ["Ready", "Synced", "Paused"]


def test_suspending_is_a_condition_and_no_failure(synced):
    synced.apply(cron_task("held", suspend=True))
    synced.wait_condition("CronTask", "held", "Paused", status="True", reason="Suspended")
    assert synced.condition("CronTask", "held")["status"] == "True"
    assert synced.condition("CronTask", "held", "Scheduled")["reason"] == "HeldBack"
    assert "nextTickTimes" not in synced.get("CronTask", "held")["status"]


def test_a_sync_does_not_undo_a_pause_made_at_run_time(synced):
    synced.apply(cron_task("paused"))
    synced.wait_condition("CronTask", "paused", status="True")
    synced.sql("UPDATE fibflow.cron_task SET paused = true WHERE name = 'paused'")
    synced.wait_condition("CronTask", "paused", "Paused", status="True", reason="PausedByCommand", seconds=15)
    synced.apply(cron_task("paused", schedule="0 4 * * *"))
    synced.wait_sql("0 4 * * *", CRON_ROW, "paused")
    assert synced.sql("SELECT paused FROM fibflow.cron_task WHERE name = 'paused'") == [(True,)]


def test_nothing_of_ours_is_on_any_resource(synced):
    synced.apply(cron_task("plain"), resource("WorkerPool", "plain", app="a:b"))
    synced.wait_condition("CronTask", "plain", status="True")
    synced.wait_condition("WorkerPool", "plain", "Synced", status="True")
    for kind, name in (("TaskType", "work"), ("CronTask", "plain"), ("WorkerPool", "plain")):
        metadata = synced.get(kind, name)["metadata"]
        assert "finalizers" not in metadata
        assert set(metadata.get("annotations", {})) <= {"kubectl.kubernetes.io/last-applied-configuration"}


# ── deletion ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cron_task_that_is_deleted_is_gone(synced):
    synced.apply(cron_task("short"))
    synced.wait_condition("CronTask", "short", status="True")
    synced.delete("CronTask", "short")
    synced.wait_sql(0, CRONS)


def test_what_is_deleted_while_no_operator_runs_is_found(synced):
    synced.apply(cron_task("short"), cron_task("long"))
    synced.wait_condition("CronTask", "short", status="True")
    synced.wait_condition("CronTask", "long", status="True")
    synced.apply(task_type("gone"), resource("WorkerPool", "gone", app="a:b"))
    synced.wait_condition("TaskType", "gone", status="True")
    synced.wait_sql(1, "SELECT count(*) FROM fibflow.worker_pool WHERE name = 'gone'")
    synced._started[0].end()
    for kind, name in (("CronTask", "short"), ("TaskType", "gone"), ("WorkerPool", "gone")):
        synced.delete(kind, name)
    synced.start()
    synced.wait_sql(1, CRONS)
    assert synced.sql(CRON_ROW, "long")
    synced.wait_sql(True, "SELECT draining FROM fibflow.task_type WHERE name = 'gone'")
    synced.wait_sql(0, "SELECT count(*) FROM fibflow.worker_pool WHERE name = 'gone'")


def test_what_is_deleted_while_the_watch_is_told_410_is_found(plane):
    plane.apply(task_type("work"), cron_task("short"))
    plane.start("--list-every", "3")
    plane.wait_condition("CronTask", "short", status="True")
    with plane.proxy.fault(Answer(500), verb="watch", resource="crontasks"):
        assert plane.proxy.expire(resource="crontasks", user=plane.user) > 0
        plane.delete("CronTask", "short")
        plane.wait_sql(0, CRONS)


@pytest.mark.parametrize("fault", [Answer(403), Cut(), Answer(500)], ids=["403", "cut", "500"])
def test_a_list_that_fails_deletes_nothing(plane, fault):
    plane.apply(task_type("work"), cron_task("stays"))
    first = plane.start()
    plane.wait_condition("CronTask", "stays", status="True")
    first.end()
    with plane.proxy.fault(fault, verb="list", resource="crontasks") as rule:
        plane.start("--list-every", "0.5", "--look-every", "0.5")
        plane.wait_log("lead_taken", number=2)
        until(lambda: rule.hits > 3, 30, "lists were tried")
        plane.apply(task_type("witness"))
        plane.wait_sql(1, "SELECT count(*) FROM fibflow.task_type WHERE resource = 'witness'")
        assert plane.sql(CRON_ROW, "stays")


POLICIES = {"Retain": (False, 1), "Drain": (True, 1), "Cancel": (True, 0)}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_deletion_policy_does_what_it_says(synced, policy):
    draining, kept = POLICIES[policy]
    synced.apply(task_type("ends", deletionPolicy=policy), task_type("ends-later", deletionPolicy="Cancel"))
    synced.wait_condition("TaskType", "ends", status="True")
    synced.wait_condition("TaskType", "ends-later", status="True")
    client = Client(synced.url, namespace=synced.namespace)
    for name in ("ends", "ends-later"):
        client.enqueue(name, {})
    for name in ("ends", "ends-later"):
        synced.delete("TaskType", name)
        synced.wait_sql(None, "SELECT max(resource) FROM fibflow.task_type WHERE name = %s", name)
    synced.wait_sql(0, LEFT, "ends-later")  # whoever cancelled that has seen the other, too
    assert synced.sql(LEFT, "ends") == [(kept,)]
    if draining:
        with pytest.raises(TaskTypeDraining):
            client.enqueue("ends", {})
        synced.apply(task_type("ends", deletionPolicy=policy))
        synced.wait_condition("TaskType", "ends", status="True")
    client.enqueue("ends", {})
    client.close()


LEFT = "SELECT count(*) FROM fibflow.task t JOIN fibflow.task_type k ON k.id = t.type_id WHERE k.name = %s"


@pytest.mark.parametrize("running", [True, False], ids=["up", "down"])
def test_a_namespace_is_deleted_whether_an_operator_runs_or_not(synced, running):
    synced.apply(cron_task("inside"), resource("WorkerPool", "inside", app="a:b"))
    synced.wait_condition("CronTask", "inside", status="True")
    if not running:
        synced._started[0].end()
    synced.delete_namespace()
    if running:
        synced.wait_sql(0, CRONS)
    synced.cluster.kubectl("create", "namespace", synced.namespace)
