"""Bad input, as a person meets it: real commands, exit code 2, one message that helps, nothing stored, no traceback."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from fibflow import Client
from fibflow.store.migrate import migrate
from fibflow.store.tasktypes import Declaration

CLOSED = "postgresql://somebody:secret@127.0.0.1:1/fibflow"
BIG = b'{"a": "' + b"x" * (1 << 20) + b'"}'


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A SQLite file with the task type `resize` and one task."""
    file = tmp_path_factory.mktemp("stored") / "fibflow.db"
    migrate(f"sqlite:///{file}")
    client = Client(f"sqlite:///{file}")
    client.declare_types([Declaration("resize")])
    client.enqueue("resize")
    client.close()
    return file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    for name in ("FIBFLOW_DATABASE", "FIBFLOW_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def refused(done, *fragments):
    """The command was refused: with exit code 2, in one line that says all of this, and without a traceback."""
    told = done.stderr.decode(errors="surrogateescape")
    assert done.returncode == 2, told
    assert done.stdout == b""
    assert "Traceback" not in told
    for fragment in fragments:
        assert fragment in told
    assert "Error: " in told or told.startswith("fibflow worker: ")


def content(file):
    with sqlite3.connect(file) as connection:
        dump = list(connection.iterdump())
    connection.close()
    return dump


NOT_JSON = ("payload: ", "is not JSON", 'write it as {"name": "value"}')
IN_THE_DATABASE = {
    "an unknown task type": (["enqueue", "resiz"], "type: 'resiz'", "start a worker that has its handler"),
    "a payload that is not JSON": (["enqueue", "resize", "{x"], *NOT_JSON, "'{x'"),
    "a payload that is NaN": (["enqueue", "resize", "NaN"], *NOT_JSON, "'NaN'"),
    "a NUL": (["enqueue", "resize", r'{"a": ["\u0000"]}'], "payload: ", r"'\x00'", "holds a NUL character; remove it"),
    "half a surrogate pair": (["enqueue", "resize", r'{"a": "\ud800"}'], *NOT_JSON, "low surrogate"),
    "bytes that are no text": (["enqueue", "resize", b'{"a": "\xff"}'], *NOT_JSON, r"\udcff"),
    "a tag that is no text": (["enqueue", "resize", "--tag", b"\xff"], "tag: ", r"'\udcff'", "remove it"),
    "a negative priority": (["enqueue", "resize", "--priority", "-21"], "priority: -21", "not between -20 and 20"),
    "a negative delay": (["enqueue", "resize", "--delay", "-1"], "delay: -1", "not between 0 and"),
    "a negative timeout": (["enqueue", "resize", "--timeout", "-1"], "timeout: -1", "not between 0.001 and"),
    "negative attempts": (["enqueue", "resize", "--max-attempts", "-1"], "max_attempts: -1", "not between 1 and"),
    "a negative age": (["prune", "--age", "-1"], "age: -1", "not between 0.001 and"),
    "a negative limit": (["list", "--limit", "-1"], "'--limit': -1", "not in the range"),
    "a namespace that is no text": (["list", "--namespace", b"\xff"], "namespace: ", r"'\udcff'", "remove it"),
    "an empty namespace": (["list", "--namespace", ""], "namespace: ''", "give it a value"),
    "a cron task's name that is no text": (["cron", "pause", b"\xff"], "name: ", r"'\udcff'", "remove it"),
    "a type's name that is no text": (["pause-type", b"\xff"], "type: ", r"'\udcff'", "remove it"),
    "a task that is not there": (["show", "7"], "there is no task 7"),
}


@pytest.mark.parametrize(("arguments", "fragments"), [(c[0], c[1:]) for c in IN_THE_DATABASE.values()], ids=IN_THE_DATABASE)
def test_bad_input_is_refused_and_changes_nothing(fibflow, arguments, fragments, stored, folder):
    before = content(stored)
    refused(fibflow(*arguments, "--database", f"sqlite:///{stored}"), *fragments)
    assert content(stored) == before


def test_a_payload_above_its_bound_is_refused(fibflow, stored, folder):
    before = content(stored)
    done = fibflow("enqueue", "resize", "-", "--database", f"sqlite:///{stored}", stdin=BIG)
    refused(done, "payload: '1048584 bytes'", "longer than 1048576 bytes; store it elsewhere and pass a reference")
    assert content(stored) == before


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("61 * * * *", "minute '61' is refused: write 0 to 59"),
        ("* * *", "schedule '* * *' has 3 fields: write five"),
        ("0 0 30 2 *", "schedule '0 0 30 2 *' can never fire: day of month 30 does not come in month 2; correct one"),
    ],
)
def test_a_bad_schedule_is_refused(fibflow, schedule, said, folder):
    refused(fibflow("cron", "next", schedule), said)


# ── manifests ─────────────────────────────────────────────────────────────────────────────────────────────────────

HEAD = "apiVersion: fibflow.dev/v1alpha1\nkind: {}\nmetadata: {{name: it}}\nspec: "
POOL = HEAD.format("WorkerPool") + "{app: 'shop:app'}\n"
CRON = HEAD.format("CronTask")
TYPE = HEAD.format("TaskType")
MANIFESTS = {
    "an unknown key": (TYPE + "{timeoutSecond: 5}", "spec.timeoutSecond", "did you mean timeoutSeconds?"),
    "a syntax error": (TYPE + "{priority: 5", "line 4", "is not what a manifest may hold"),
    "a tag of Python's": (
        TYPE + "{description: !!python/object/apply:os.getcwd []}",
        "line 4",
        "the tag tag:yaml.org,2002:python/object/apply:os.getcwd is not obeyed here; remove it",
    ),
    "an anchor within itself": (TYPE + "&a {description: *a}", "line 4", "contains itself by an alias; write it out"),
    "an anchor that is not there": (TYPE + "{description: *a}", "line 4", "undefined alias"),
    "a negative number": (TYPE + "{timeoutSeconds: -1}", "spec.timeoutSeconds: -1", "is less than 1"),
    "a bad schedule": (CRON + "{taskTypeRef: {name: a}, schedule: '61 * * * *'}", "spec.schedule: '61 * * * *'", "minute"),
    "a schedule that never fires": (
        CRON + "{taskTypeRef: {name: a}, schedule: '0 0 30 2 *'}",
        "spec.schedule: '0 0 30 2 *'",
        "can never fire",
        "correct one of the two",
    ),
    "a NUL": (TYPE + r'{description: "a\0"}', "spec.description", r"'a\x00'", "remove it"),
    "a NUL in the environment": (
        HEAD.format("WorkerPool") + r"""{app: "a:b", env: [{name: A, value: "\0"}]}""",
        "spec.env[0].value",
        "remove it",
    ),
    "a name twice": (f"{POOL}---\n{POOL}", "metadata.name: 'it'", "names a WorkerPool already", "give it another name"),
    "a pool that is not there": (TYPE + "{workerPoolRef: {name: x}}", "spec.workerPoolRef.name: 'x'", "there is none"),
    "a kind that is not there": (POOL.replace("WorkerPool", "Pool"), "kind: 'Pool'", "is not one of CronTask, TaskType"),
    "another namespace": (POOL.replace("name: it", "name: it, namespace: x"), "metadata.namespace: 'x'", "--namespace"),
}


@pytest.mark.parametrize(("text", "fragments"), [(case[0], case[1:]) for case in MANIFESTS.values()], ids=MANIFESTS)
def test_a_bad_manifest_is_refused_before_anything_is_made(fibflow, text, fragments, folder):
    (folder / "it.yaml").write_text(text)
    refused(fibflow("dev", "-f", "it.yaml"), "it.yaml", *fragments)
    assert [each.name for each in folder.iterdir()] == ["it.yaml"]


# ── databases ─────────────────────────────────────────────────────────────────────────────────────────────────────

COMMANDS = {
    "enqueue": ["enqueue", "resize"],
    "list": ["list"],
    "worker": ["worker", "shop:app"],
    "dev": ["dev", "-f", "it.yaml"],
    "migrate": ["migrate"],
}
MIGRATED_ALREADY = ("enqueue", "list", "worker")


@pytest.fixture
def shop(folder):
    """A folder with an application and a manifest."""
    (folder / "shop.py").write_text("from fibflow import App\napp = App()\n")
    (folder / "it.yaml").write_text(POOL)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_sqlite_folder_that_is_not_there_is_refused_and_not_made(fibflow, command, shop):
    done = fibflow("--database", "sqlite:///nowhere/fibflow.db", *COMMANDS[command])
    refused(done, "database: 'sqlite:///nowhere/fibflow.db'", "does not exist", "--database")
    assert not (shop / "nowhere").exists()


@pytest.mark.parametrize("command", MIGRATED_ALREADY)
def test_a_sqlite_file_that_is_not_there_is_refused_and_not_made(fibflow, command, shop):
    refused(fibflow("--database", "sqlite:///new.db", *COMMANDS[command]), "'sqlite:///new.db'", "run `fibflow migrate`")
    assert not (shop / "new.db").exists()


@pytest.mark.parametrize("command", ["list", "worker", "migrate"])
def test_a_file_that_is_no_database_is_refused_and_kept(fibflow, command, shop):
    (shop / "notes.txt").write_text("dear diary")
    refused(fibflow("--database", "sqlite:///notes.txt", *COMMANDS[command]), "'sqlite:///notes.txt'", "name another file")
    assert (shop / "notes.txt").read_text() == "dear diary"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_does_not_answer_is_refused_and_its_password_hidden(fibflow, command, shop):
    done = fibflow("--database", CLOSED, *COMMANDS[command])
    refused(done, "database: postgresql://somebody:***@127.0.0.1:1/fibflow is not available", "--database")
    assert b"secret" not in done.stderr


@pytest.mark.parametrize("command", ["enqueue", "worker"])
def test_a_wrong_password_is_refused_and_hidden(fibflow, command, shop, postgres_url, guarded):
    done = fibflow("--database", postgres_url.replace("fibflow@", f"{guarded}:secret@"), *COMMANDS[command])
    refused(done, f"database: postgresql://{guarded}:***@", "password authentication failed", "--database")
    assert b"secret" not in done.stderr


@pytest.fixture(scope="session")
def guarded(postgres_server):
    """A role of the server's that needs a password."""
    postgres_server.sql("CREATE ROLE guarded LOGIN PASSWORD 'another'")
    rules = Path(postgres_server._cluster) / "pg_hba.conf"
    rules.write_text("host all guarded 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    postgres_server.sql("SELECT pg_reload_conf()")
    until(lambda: not admits(postgres_server.url().replace("fibflow@", "guarded@")))
    return "guarded"


def admits(url):
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def until(condition, seconds=20):
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "is in memory, which ends with this program; write sqlite:///FILE"),
        ("sqlite:///it.yaml?mode=ro", "has options behind its ?, of which SQLite takes none; leave them out"),
        ("oracle://somebody:secret@h/d", "is of a kind that is not supported; write sqlite:///FILE or postgresql://"),
        ("nonsense", "'nonsense' is not a database URL; write sqlite:///FILE or postgresql://"),
    ],
)
def test_a_url_that_names_no_database_is_refused(fibflow, url, said, shop):
    done = fibflow("list", "--database", url)
    refused(done, "database: ", said)
    assert b"secret" not in done.stderr


@pytest.mark.parametrize("url", ["postgresql://u@h:x/d", b"postgresql://127.0.0.1:1/\xff"])
def test_a_url_with_a_part_that_is_none_is_refused(fibflow, url, shop):
    refused(fibflow("list", "--database", url), "database: ", "is not a database URL")


@pytest.mark.parametrize("url", ["oracle://u:se/cret@h/d", "postgresql://127.0.0.1:1/d?password=cret"])
def test_a_password_is_hidden_wherever_it_stands_in_a_url(fibflow, url, shop):
    assert b"cret" not in fibflow("list", "--database", url).stderr


@pytest.mark.parametrize("command", MIGRATED_ALREADY)
def test_a_database_that_is_not_migrated_says_what_to_run(fibflow, command, shop, postgres_empty_url):
    refused(fibflow("--database", postgres_empty_url, *COMMANDS[command]), "database: postgresql://", "run `fibflow migrate`")


@pytest.mark.parametrize("command", MIGRATED_ALREADY)
def test_a_sqlite_file_that_is_not_migrated_says_what_to_run(fibflow, command, shop):
    (shop / "empty.db").touch()
    refused(fibflow("--database", "sqlite:///empty.db", *COMMANDS[command]), "database: sqlite", "run `fibflow migrate`")


# ── applications ──────────────────────────────────────────────────────────────────────────────────────────────────

NO_APP = {
    "a module that is not there": ("nowhere:app", "'nowhere:app' does not import: ModuleNotFoundError"),
    "a module that raises": ("raises:app", r"'raises:app' does not import: ZeroDivisionError", "raises.py, line 2"),
    "a module that exits": ("leaves:app", "'leaves:app' does not import: SystemExit", "leaves.py, line 2"),
    "a module that is no Python": ("broken:app", "'broken:app' does not import: SyntaxError", "broken.py, line 1"),
    "an attribute that is not there": ("shop:ap", "'shop:ap' does not import: AttributeError", "'ap'"),
    "an attribute that is no App": ("raises:sys", "'raises:sys'", "does not import"),
    "a function": ("json:loads", "'json:loads' is a function and no fibflow.App"),
    "no name at all": (":", "':' does not import"),
}


@pytest.mark.parametrize(("target", "fragments"), [(case[0], case[1:]) for case in NO_APP.values()], ids=NO_APP)
def test_an_application_that_does_not_import_is_refused(fibflow, target, fragments, stored, shop):
    (shop / "raises.py").write_text("import sys\n1 / 0\n")
    (shop / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    (shop / "broken.py").write_text("app = = App()\n")
    before = content(stored)
    refused(fibflow("--database", f"sqlite:///{stored}", "worker", target), "app: ", *fragments, "give MODULE:APP")
    assert content(stored) == before


WORKER_OPTIONS = {
    "negative slots": (["--slots", "-1"], "'--slots': -1"),
    "a negative lease": (["--lease", "-1"], "'--lease': -1.0"),
    "a lease that is no number": (["--lease", "nan"], "lease: nan is not a number"),
    "an endless drain": (["--drain", "inf"], "drain: inf is not a number"),
    "a heartbeat longer than the lease": (["--lease", "3"], "lease: 3.0 is less than two heartbeats of 5 s"),
    "a pod that is no text": (["--pod-id", b"\xff"], "pod_id: ", r"'\udcff'", "remove it"),
    "a namespace that is no text": (["--namespace", b"\xff"], "namespace: ", r"'\udcff'", "remove it"),
}


@pytest.mark.parametrize(("options", "fragments"), [(c[0], c[1:]) for c in WORKER_OPTIONS.values()], ids=WORKER_OPTIONS)
def test_a_worker_with_a_bad_option_does_not_register(fibflow, options, fragments, stored, shop):
    before = content(stored)
    refused(fibflow("--database", f"sqlite:///{stored}", "worker", "shop:app", *options), *fragments)
    assert content(stored) == before


def test_a_log_level_that_is_not_there_is_refused(fibflow, stored, shop, monkeypatch):
    monkeypatch.setenv("FIBFLOW_LOG_LEVEL", "loud")
    for command in (["list"], ["worker", "shop:app"]):
        refused(
            fibflow("--database", f"sqlite:///{stored}", *command), "'--log-level': 'loud'", "is not one of 'debug', 'info'"
        )


def test_dev_tells_of_an_application_that_does_not_import_and_stops_in_order(shop):
    (shop / "shop.py").write_text("1 / 0\n")
    command = [sys.executable, "-m", "fibflow", "dev", "-f", "it.yaml"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as dev:
        killer = threading.Timer(60, dev.kill)
        killer.start()
        told = []
        assert dev.stderr is not None
        for line in dev.stderr:
            told.append(line)
            if "it-0 ended" in line:
                os.kill(dev.pid, signal.SIGTERM)
        killer.cancel()
    text = "".join(told)
    assert dev.returncode == 0
    assert "app: 'shop:app' does not import: ZeroDivisionError" in text
    assert "exit code 2" in text
    assert "Traceback" not in text


# ── what is told on the way ───────────────────────────────────────────────────────────────────────────────────────


def test_what_a_command_did_is_told_as_json_where_nobody_reads_and_on_stderr_alone(fibflow, stored, folder):
    place = ["--database", f"sqlite:///{stored}"]
    quiet = fibflow(*place, "pause-type", "resize")
    told = fibflow("--log-level", "info", *place, "resume-type", "resize")
    assert (quiet.returncode, quiet.stderr, told.returncode) == (0, b"", 0)
    assert told.stdout == b"resume-type: resize\n"
    (event,) = map(json.loads, told.stderr.splitlines())
    assert (event["event"], event["type"], event["level"]) == ("type_resumed", "resize", "info")
