"""Set-up: what the defaults are, which options are refused, and what the log tells."""

import asyncio
import io
import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from fibflow import App, Client, Options, PermanentError, logs
from fibflow.errors import DatabaseUnavailable, InvalidInput
from fibflow.logs import Levels, configure, logger
from fibflow.store import leases
from fibflow.store.retention import A_DAY, AN_HOUR
from fibflow.store.tasktypes import Declaration
from fibflow_worker.maintenance import BUSY_POLL
from fibflow_worker.runtime import Worker
from fibflow_worker.settings import Settings, settings

WORK = [Declaration("work")]


@pytest.fixture(autouse=True)
def no_database_in_the_environment(monkeypatch):
    for name in ("FIBFLOW_DATABASE", "FIBFLOW_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


# ── defaults ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_defaults_are_those_of_the_docs(database):
    client = Client(database)
    client.declare_types(WORK)
    task = client.get(client.enqueue("work"))
    assert (task.max_attempts, task.timeout, task.priority) == (3, 60.0, 0)
    assert (task.backoff, task.backoff_factor, task.max_backoff) == (0.0, 1.0, None)

    in_force = worker_settings(database)
    assert (in_force.slots, in_force.poll_interval) == (10, 1.0)
    assert (in_force.heartbeat_interval, in_force.lease) == (5.0, 30.0)
    assert in_force.recover_running_tasks is True
    assert (in_force.retention_age, in_force.retention_interval) == ("usual", 300.0)
    assert set(in_force.retention_statuses) == {"completed", "permanently_failed", "cancelled"}
    assert worker_settings(database, Settings(slots=3)).slots == 3, "what is in force can be asked for"
    assert BUSY_POLL == 0.05


def test_a_heartbeat_writes_one_row_for_the_worker_and_none_for_its_tasks(hand):
    row = hand.take()
    task, (before,) = hand.client.get(row.id), hand.client.workers()
    hand.move_clock(10)
    hand.database.call(leases.renew, hand.worker_id)
    (after,) = hand.client.workers()
    assert hand.client.get(row.id) == task
    assert after.renewed_at - before.renewed_at >= timedelta(seconds=10)
    hand.database.call(leases.register, pod_id="pod-1", host="h", pid=1, slots=1, lease=0.25)
    (short,) = hand.client.workers(pod_id="pod-1")
    assert short.expires_at - short.renewed_at == timedelta(seconds=0.25), "as given, not rounded"


@pytest.mark.parametrize(("url", "age"), [("sqlite://", AN_HOUR), ("sqlite:///{}/file.db", A_DAY)])
def test_history_is_usually_kept_for_a_day_and_in_memory_for_an_hour(tmp_path, url, age):
    with Client(url.format(tmp_path)) as client:
        client.migrate()
        client.declare_types(WORK)
        client.cancel(client.enqueue("work"))
        clock = client.database.clock
        clock.offset += round((age - 10) * 1_000_000)
        assert client.prune().tasks == 0
        clock.offset += 20_000_000
        assert client.prune().tasks == 1


def worker_settings(database, given=None):
    """What a worker says of itself; it is made in a loop and never started."""

    async def made():
        return Worker(App(), database, given).settings

    return asyncio.run(made())


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────

UNUSABLE_SETTINGS: list[dict[str, Any]] = [
    *({"slots": value} for value in (0, -1, 1.5, "10", True, None)),
    *({"poll_interval": value} for value in (0, -1, "1", float("nan"))),
    *({"heartbeat_interval": value} for value in (0, -5, "5")),
    *({"lease": value} for value in (0, -30, "30", 1)),
    *({"drain": value} for value in (-1, "x")),
    *({"retention_age": value} for value in (0, -1, "long", True)),
    *({"retention_interval": value} for value in (0, -300)),
    *({"retention_statuses": value} for value in ((), ("running",), ("done",), "completed", None)),
    *({"recover_running_tasks": value} for value in (1, "yes", None)),
    *({"pod_id": value} for value in ("", "  ", 7)),
]
UNUSABLE_OPTIONS: list[dict[str, Any]] = [
    {"timeout": 0}, {"timeout": -1}, {"timeout": "60"}, {"timeout": float("inf")}, {"max_attempts": 0},
    {"max_attempts": 1.5}, {"backoff": -1}, {"backoff_factor": 0.5}, {"max_backoff": -1}, {"priority": 21}, {"priority": -21},
    {"priority": "high"},
]  # fmt: skip
UNKNOWN_OPTIONS: list[dict[str, Any]] = [{"retries": 3}, {"retryDelay": 5}, {"retry_interval": 5}, {"max_retries": 3}]


def refused(call, given):
    """The call is refused with the field, the value and a way out."""
    ((name, value),) = given.items()
    with pytest.raises(InvalidInput) as refusal:
        call(**given)
    assert refusal.value.field == name, given
    text = str(refusal.value)
    assert text.startswith(f"{name}: ") and len(text) > len(f"{name}: {value!r} "), text


def test_unusable_options_are_refused_by_name(database):
    client = Client(database)
    client.declare_types(WORK)
    for given in UNUSABLE_SETTINGS:
        refused(Settings, given)
    with pytest.raises(InvalidInput, match="settings: 'slot' is no setting; known: slots,"):
        settings({"slot": 3})

    app = App()
    cron: dict[str, Any] = {"name": "nightly", "type": "work", "schedule": "@daily"}
    for given in UNUSABLE_OPTIONS:
        refused(lambda **options: client.enqueue("work", **options), given)
        refused(lambda **options: client.put_cron(**cron, **options), given)
        refused(lambda **options: client.declare_types([Declaration("other", Options(**options))]), given)
    for unknown in (*UNKNOWN_OPTIONS, {"tag": "x"}, {"delay": 5}):
        with pytest.raises(InvalidInput, match=f"{next(iter(unknown))}.*known: timeout, max_attempts"):
            app.add("work", lambda ctx: None, **unknown)
    for unknown in UNKNOWN_OPTIONS:
        with pytest.raises(TypeError, match=next(iter(unknown))):  # Python's own refusal of a name that no signature has
            client.enqueue("work", **unknown)
    with pytest.raises(TypeError, match="delay"):
        client.put_cron(**cron, delay=5)  # type: ignore[call-arg]
    for place in ({"pod_id": " "}, {"lease": 0.0}, {"lease": -1.0}, {"slots": 0}):
        identity: dict[str, Any] = {"pod_id": None, "host": "h", "pid": 1, "slots": 1, "lease": 30.0}
        with pytest.raises(InvalidInput, match=next(iter(place))):
            database.call(leases.register, **identity | place)
    assert (client.tasks().total, client.crons(), len(client.types()), app.handlers) == (0, [], 1, {})


# ── the log ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_log_tells_transitions_and_no_password(workplace, caplog):
    caplog.set_level(logging.DEBUG, "fibflow")
    caplog.set_level(logging.DEBUG, "fibflow_worker")
    app = App()
    app.add("ok", lambda ctx, payload: None)
    app.add("bad", failing)
    app.sync(workplace.database)
    paused, cancelled = workplace.client.enqueue("ok"), workplace.client.enqueue("ok")
    workplace.client.pause(paused)
    workplace.client.cancel(cancelled, reason="no longer wanted")
    lost = workplace.taken(workplace.registered("pod-0"), "ok")
    workplace.start(app, pod_id="pod-0")
    workplace.outcome("bad", max_attempts=1)
    workplace.ended(lost.id)
    with pytest.raises(DatabaseUnavailable) as refusal, Client("postgresql://ann:hunter2@127.0.0.1:1/tasks") as nowhere:
        nowhere.tasks()
    with pytest.raises(InvalidInput) as unknown:
        Client("mysql://ann:hunter2@127.0.0.1/tasks")

    told: dict[int, set[object]] = {}
    for record in caplog.records:
        if record.name.startswith("fibflow"):
            told.setdefault(record.levelno, set()).add(dict(record.msg)["event"])
    assert {"task_paused", "task_cancelled", "task_failed", "task_recovered"} <= told[logging.INFO]
    assert {"task_created", "task_claimed", "task_completed"} <= told[logging.DEBUG]
    assert not {"task_created", "task_claimed", "task_completed"} & told[logging.INFO], "a busy worker stays readable"
    everything = f"{caplog.text} {refusal.value} {unknown.value}"
    assert "hunter2" not in everything


@pytest.fixture
def undone(monkeypatch):
    """Logging is afterwards as it was."""
    monkeypatch.setattr(logs, "_configured", None)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("fibflow", "fibflow_worker", "fibflow_operator"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_worker_writes_info_to_its_own_stream(undone):
    stream = io.StringIO()
    configure(Levels(), stream)
    logger("fibflow_worker.runtime").info("worker_registered", worker_id=7)
    logger("fibflow.store.enqueue").debug("task_created", tasks=1)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert (line["event"], line["worker_id"], line["logger"]) == ("worker_registered", 7, "fibflow_worker.runtime")


def test_records_of_an_applications_own_logger_have_the_facts_that_ours_have(undone):
    stream = io.StringIO()
    configure(Levels(others="INFO"), stream)
    shop = logging.getLogger("shop")
    shop.debug("unheard")
    shop.info("sold %d", 3)
    try:
        raise KeyError("apple")
    except KeyError:
        shop.exception("not sold")
    sold, failed = map(json.loads, stream.getvalue().splitlines())
    assert (sold["event"], sold["level"], sold["logger"]) == ("sold 3", "info", "shop") and sold["timestamp"].endswith("Z")
    assert failed["level"] == "error" and "KeyError: 'apple'" in failed["exception"]


def test_a_person_at_a_terminal_reads_lines_and_no_json(undone):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure(Levels(), stream)
    logger("fibflow_worker.runtime").info("worker_registered", worker_id=7)
    logging.getLogger("shop").warning("sold out")
    first, second = stream.getvalue().splitlines()
    assert "worker_registered" in first and "worker_id" in first and not first.startswith("{")
    assert "warning" in second and "sold out" in second


def failing(ctx, payload):
    raise PermanentError("broken")
