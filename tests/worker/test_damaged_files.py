"""SQLite files that are damaged, as a person meets them: exit code 2, which file, what is wrong with it, and a way out."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from fix_commands import refused

PAGE = 4096
COMMANDS = {
    "enqueue": ["enqueue", "resize"],
    "list": ["list"],
    "show": ["show", "1"],
    "tree": ["tree", "1"],
    "cancel": ["cancel", "1"],
    "pause-type": ["pause-type", "resize"],
    "prune": ["prune"],
    "workers": ["workers"],
    "types": ["types"],
    "cron list": ["cron", "list"],
    "worker": ["worker", "shop:app"],
    "dev": ["dev", "-f", "it.yaml"],
    "migrate": ["migrate"],
}
WAY_OUT = "from a copy, or name another with --database"


def noise(length):
    return random.Random(1).randbytes(length)


DAMAGES = {
    "a file whose later pages are noise": lambda sound: sound[:PAGE] + noise(len(sound) - PAGE),
    "a file whose later pages are zeros": lambda sound: sound[:PAGE] + bytes(len(sound) - PAGE),
    "a file whose header is noise": lambda sound: sound[:16] + noise(len(sound) - 16),
    "half of a file": lambda sound: sound[: len(sound) // 2],
    "the beginning of a page": lambda sound: sound[:100],
}


@pytest.fixture
def sound(shop, resizing):
    """A database in the folder, whose log is empty."""
    file = shop / "fibflow.db"
    shutil.copy(resizing, file)
    return file


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", ["list", "worker", "dev", "migrate"])
def test_a_damaged_file_is_refused_and_kept(fibflow, sound, damage, command):
    sound.write_bytes(damaged := DAMAGES[damage](sound.read_bytes()))
    refused(fibflow(*COMMANDS[command]), "database: sqlite:///", "fibflow.db is damaged (", WAY_OUT)
    assert sound.read_bytes() == damaged


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_damaged_file(fibflow, sound, command):
    content = sound.read_bytes()
    sound.write_bytes(content[:PAGE] + noise(len(content) - PAGE))
    refused(fibflow(*COMMANDS[command]), "database: sqlite:///", "fibflow.db is damaged (", WAY_OUT)


@pytest.mark.parametrize("command", ["list", "enqueue", "worker", "dev", "migrate"])
def test_a_log_that_is_none_is_refused_and_kept(fibflow, sound, command):
    log = sound.with_name("fibflow.db-wal")
    log.write_bytes(noise(3 * PAGE))
    refused(fibflow(*COMMANDS[command]), "fibflow.db' is damaged (fibflow.db-wal is no log of SQLite's)", WAY_OUT)
    assert log.read_bytes() == noise(3 * PAGE)


def test_a_log_that_is_none_is_found_behind_a_link(fibflow, sound):
    sound.with_name("fibflow.db-wal").write_bytes(b"no log of anything")
    (sound.parent / "links").mkdir()
    link = sound.parent / "links" / "link.db"
    link.symlink_to(sound)
    refused(fibflow("list", "--database", f"sqlite:///{link}"), "is no log of SQLite's", WAY_OUT)


@pytest.mark.parametrize("begun", [b"", b"\x37", bytes(64)], ids=["empty", "cut off", "zeros"])
def test_a_log_that_was_never_begun_is_none_that_is_damaged(fibflow, sound, begun):
    sound.with_name("fibflow.db-wal").write_bytes(begun)
    assert fibflow("list").returncode == 0


def test_a_log_that_holds_commits_is_read(fibflow, sound):
    with sqlite3.connect(sound, isolation_level=None) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("UPDATE task SET tag = 'from the log'")
        assert sound.with_name("fibflow.db-wal").stat().st_size > 0
        assert b"from the log" in fibflow("list").stdout
    writer.close()


@pytest.mark.parametrize("payload", [b'{"n": \xff}', b'{"n": oh}', b'{"n": 1)]'], ids=["no UTF-8", "no JSON", "unbalanced"])
def test_a_value_that_was_never_written_is_refused(fibflow, sound, payload):
    with sqlite3.connect(sound) as writer:
        writer.execute("PRAGMA ignore_check_constraints=ON")
        writer.execute("UPDATE task SET payload = CAST(? AS TEXT)", [payload])
    writer.close()
    refused(fibflow("list"), "database: sqlite:///", "fibflow.db is damaged (", WAY_OUT)


def test_a_worker_whose_file_is_damaged_under_it_says_so_now_and_then_and_stops_when_told_to(sound):
    command = [sys.executable, "-m", "fibflow", "worker", "shop:app", "--poll-interval", "0.3", "--drain", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        killer = threading.Timer(60, worker.kill)
        killer.start()
        assert worker.stderr is not None
        told = [json.loads(worker.stderr.readline())]
        with sound.open("r+b") as file:
            file.seek(16)
            file.write(noise(20 * PAGE))
        began = time.monotonic()
        while len(told) < 5:
            told.append(json.loads(worker.stderr.readline()))
        lasted = time.monotonic() - began
        worker.terminate()
        rest = worker.stderr.read()
    killer.cancel()
    assert [each["event"] for each in told] == ["worker_registered", *["database_error"] * 4]
    assert "fibflow.db is damaged (" in told[-1]["error"] and "restore its file from a copy" in told[-1]["error"]
    assert lasted > 0.6, "it tries again without a pause"
    assert worker.returncode == 0 and "Traceback" not in rest
