"""Databases that are not there and applications that do not import, as a person meets them: exit code 2 and a way out."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from fibflow.store.migrate import migrate
from fix_commands import POOL, content, refused
from fix_semantics import until

CLOSED = "postgresql://somebody:secret@127.0.0.1:1/fibflow"

COMMANDS = {
    "enqueue": ["enqueue", "resize"],
    "list": ["list"],
    "worker": ["worker", "shop:app"],
    "dev": ["dev", "-f", "it.yaml"],
    "migrate": ["migrate"],
}
MIGRATED_ALREADY = ("enqueue", "list", "worker")


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


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "is in memory, which ends with this program; write sqlite:///FILE"),
        ("sqlite:///it.yaml?mode=ro", "has options behind its ?, of which SQLite takes none; leave them out"),
        ("oracle://somebody:secret@h/d", "is of a kind that is not supported; write sqlite:///FILE or postgresql://"),
        ("nonsense", "'nonsense' is not a database URL; write sqlite:///FILE or postgresql://"),
        ("sqlite:///" + "a" * 300, "cannot be read: File name too long; name another file with --database"),
        ("postgresql://u@127.0.0.1:1/d?colour=red", 'invalid connection option "colour"; mend that part of it'),
        ("postgresql://u@127.0.0.1:1/d?sslmode=often", 'invalid sslmode value: "often"'),
        ("postgresql://u@127.0.0.1:99999/d", "mend that part of it"),
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
    "a module that is interrupted": ("interrupted:app", "'interrupted:app' does not import: KeyboardInterrupt"),
    "a handler that is none": ("wrong:app", "max_attempts: 0 is not", "wrong.py, line 3"),
    "a module that is no Python": ("broken:app", "'broken:app' does not import: SyntaxError", "broken.py, line 1"),
    "an attribute that is not there": ("shop:ap", "'shop:ap' does not import: AttributeError", "'ap'"),
    "an attribute that is no App": ("raises:sys", "'raises:sys'", "does not import"),
    "a function": ("json:loads", "'json:loads' is a function and no fibflow.App"),
    "no name at all": (":", "':' does not import"),
}


@pytest.mark.parametrize(("target", "fragments"), [(case[0], case[1:]) for case in NO_APP.values()], ids=NO_APP)
def test_an_application_that_does_not_import_is_refused(fibflow, target, fragments, resizing, shop):
    (shop / "raises.py").write_text("import sys\n1 / 0\n")
    (shop / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    (shop / "interrupted.py").write_text("raise KeyboardInterrupt\n")
    (shop / "wrong.py").write_text("from fibflow import App\napp = App()\napp.task('a', max_attempts=0)(print)\n")
    (shop / "broken.py").write_text("app = = App()\n")
    before = content(resizing)
    refused(fibflow("--database", f"sqlite:///{resizing}", "worker", target), "app: ", *fragments, "give MODULE:APP")
    assert content(resizing) == before


WORKER_OPTIONS = {
    "negative slots": (["--slots", "-1"], "'--slots': -1"),
    "a negative lease": (["--lease", "-1"], "lease: -1.0 is not between 0.1 and 3,600"),
    "a lease that is a word": (["--lease", "long"], "'--lease': 'long' is not a valid number of seconds"),
    "a lease that is no number": (["--lease", "nan"], "lease: nan is not a number"),
    "an endless drain": (["--drain", "inf"], "drain: inf is not a number"),
    "a heartbeat longer than the lease": (["--lease", "3"], "lease: 3.0 is less than two heartbeats of 5 s"),
    "a pod that is no text": (["--pod-id", b"\xff"], "pod_id: ", r"'\udcff'", "remove it"),
    "a namespace that is no text": (["--namespace", b"\xff"], "namespace: ", r"'\udcff'", "remove it"),
}


@pytest.mark.parametrize(("options", "fragments"), [(c[0], c[1:]) for c in WORKER_OPTIONS.values()], ids=WORKER_OPTIONS)
def test_a_worker_with_a_bad_option_does_not_register(fibflow, options, fragments, resizing, shop):
    before = content(resizing)
    refused(fibflow("--database", f"sqlite:///{resizing}", "worker", "shop:app", *options), *fragments)
    assert content(resizing) == before


def test_the_worker_is_called_as_it_was_started(fibflow, shop):
    assert fibflow("worker", "-h").stdout.startswith(b"Usage: fibflow worker [OPTIONS] MODULE:APP\n")
    refused(fibflow("worker"), "Usage: fibflow worker [OPTIONS] MODULE:APP", "Missing argument 'MODULE:APP'")


def test_a_worker_of_a_type_that_its_application_lacks_says_so(shop):
    migrate("sqlite:///fibflow.db")
    command = [sys.executable, "-m", "fibflow", "worker", "shop:app", "--type", "resize"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        killer = threading.Timer(60, worker.kill)
        killer.start()
        assert worker.stderr is not None
        told, registered = json.loads(worker.stderr.readline()), worker.stderr.readline()
        worker.terminate()
    killer.cancel()
    assert (told["event"], told["level"], told["type"], told["handlers"]) == ("handler_missing", "warning", "resize", [])
    assert "worker_registered" in registered and worker.returncode == 0


def test_a_log_level_that_is_not_there_is_refused(fibflow, resizing, shop, monkeypatch):
    monkeypatch.setenv("FIBFLOW_LOG_LEVEL", "loud")
    for command in (["list"], ["worker", "shop:app"]):
        refused(
            fibflow("--database", f"sqlite:///{resizing}", *command), "'--log-level': 'loud'", "is not one of 'debug', 'info'"
        )


DEV = [sys.executable, "-m", "fibflow", "dev", "-f", "it.yaml"]
BROKEN = {
    "a module that raises": ("1 / 0\n", "'shop:app' does not import: ZeroDivisionError"),
    "no module": (None, "'shop:app' does not import: ModuleNotFoundError"),
}


@pytest.mark.parametrize(("code", "said"), BROKEN.values(), ids=BROKEN)
def test_dev_ends_with_an_application_that_does_not_import(code, said, shop):
    (shop / "shop.py").unlink()
    if code is not None:
        (shop / "shop.py").write_text(code)
    dev = subprocess.run(DEV, capture_output=True, text=True, timeout=60)
    assert dev.returncode == 2
    assert f"fibflow worker: app: {said}" in dev.stderr
    assert "it-0 ended" in dev.stderr and "starts again" not in dev.stderr
    assert dev.stderr.endswith(
        "Error: worker: 'it-0' cannot work with what it was given, and has said why; mend that, and start again\n"
    )
    assert "Traceback" not in dev.stderr


def test_dev_that_ends_with_one_application_leaves_no_worker_of_another(shop):
    (shop / "broken.py").write_text("1 / 0\n")
    (shop / "it.yaml").write_text(POOL + "---\n" + POOL.replace("name: it", "name: broken").replace("shop:", "broken:"))
    dev = subprocess.run(DEV, capture_output=True, text=True, timeout=60)
    assert dev.returncode == 2
    (other,) = re.findall(r"it-0 started \(pid (\d+)\)", dev.stderr)
    with pytest.raises(ProcessLookupError):
        os.kill(int(other), 0)


def test_dev_goes_on_with_an_application_that_breaks_after_it_ran(shop):
    with subprocess.Popen(DEV, stderr=subprocess.PIPE, text=True) as dev:
        killer = threading.Timer(60, dev.kill)
        killer.start()
        assert dev.stderr is not None
        told = []
        for line in dev.stderr:
            told.append(line)
            if "worker_registered" in line:
                (shop / "shop.py").write_text("1 / 0\n")
                os.kill(int(re.findall(r"it-0 started \(pid (\d+)\)", "".join(told))[0]), signal.SIGKILL)
            if sum("exit code 2" in each for each in told) == 2:
                os.kill(dev.pid, signal.SIGTERM)
                break
        told += dev.stderr.readlines()
    killer.cancel()
    text = "".join(told)
    assert dev.returncode == 0, text
    assert "app: 'shop:app' does not import: ZeroDivisionError" in text
    assert "Traceback" not in text
