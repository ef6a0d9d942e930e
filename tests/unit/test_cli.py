"""The command line without a database: its exit codes, its messages, and what it lets through to a terminal."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import click
import pytest

from fibflow import cli_output
from fibflow.cli import commands
from fibflow.cli_program import run
from fibflow.errors import DatabaseUnavailable, IllegalTransition, InvalidInput, NotFound, OutcomeUnknown, SchemaMismatch

WORKER = Path(__file__).parents[2] / "worker"
READING = ["list", "show 1", "tree 1", "workers", "types", "cron list", "prune"]
WRITING = ["enqueue resize", "pause 1", "resume 1", "cancel 1", "redrive 1", "pause-type x", "resume-type x"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FIBFLOW_DATABASE", "FIBFLOW_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def fibflow(*arguments):
    return run(commands, list(arguments))


def test_the_next_instants_of_a_schedule(capsys):
    assert fibflow("cron", "next", "0 3 * * MON", "-n", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d 03:00:00Z", line) for line in lines)


def test_the_next_instants_as_json(capsys):
    assert fibflow("cron", "next", "*/2 * * * * *", "-o", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [datetime.fromisoformat(instant).second % 2 for instant in answer["instants"]] == [0] * 5


@pytest.mark.parametrize("schedule", ["61 * * * *", "0 0 30 2 *", "", "x"])
def test_a_schedule_that_is_not_one_is_bad_input(schedule, capsys):
    assert fibflow("cron", "next", schedule) == 2
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize("arguments", READING + WRITING)
def test_a_database_that_is_not_there_is_bad_input_and_is_not_made(arguments, folder, capsys):
    assert fibflow(*arguments.split()) == 2
    assert "does not exist; run `fibflow migrate`" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["show"],
        ["show", "x"],
        ["show", "0"],
        ["show", "99999999999999999999"],
        ["list", "--status", "done"],
        ["list", "--limit", "0"],
        ["list", "--offset", "-1"],
        ["cron", "next", "* * * * *", "-n", "0"],
        ["enqueue", "resize", "{x"],
        ["enqueue", "resize", "NaN"],
        ["--database", "oracle://x", "list"],
        ["--database", "nonsense", "list"],
        ["list", "--database", "sqlite://"],
        ["dev", "-f", "nowhere"],
        ["dev", "-f", "nowhere", "--database", "sqlite://"],
    ],
)
def test_bad_input_has_exit_code_two_and_one_message(arguments, capsys):
    assert fibflow(*arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "Error: " in streams.err
    assert "Traceback" not in streams.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("a", 1, "is wrong"), 2),
        (NotFound("task", 1, "default"), 2),
        (IllegalTransition("pause", "completed", "paused"), 2),
        (DatabaseUnavailable("gone\x1b[31m"), 2),
        (SchemaMismatch("not migrated: run `fibflow migrate`"), 2),
        (OutcomeUnknown("the answer was lost"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_becomes_an_exit_code(error, code, capsys):
    @click.group()
    def group(): ...

    @group.command()
    def fail():
        raise error

    assert run(group, ["fail"]) == code
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environment", "url"),
    [
        ([], {}, "sqlite:///fibflow.db"),
        ([], {"FIBFLOW_DATABASE": "sqlite:///e.db"}, "sqlite:///e.db"),
        (["--database", "sqlite:///a.db", "list"], {"FIBFLOW_DATABASE": "sqlite:///e.db"}, "sqlite:///a.db"),
        (["--database", "sqlite:///a.db", "list", "--database", "sqlite:///b.db"], {}, "sqlite:///b.db"),
    ],
)
def test_the_database_is_the_nearest_that_is_named(arguments, environment, url, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert fibflow(*(arguments or ["list"])) == 2
    assert url in capsys.readouterr().err


def test_an_output_that_takes_no_more_is_told_in_a_sentence(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert fibflow("cron", "next", "* * * * *") == 1
    told = capsys.readouterr().err
    assert told == "Error: [Errno 28] No space left on device; mend that, and see what was done before you repeat it\n"


def test_a_stream_that_is_closed_is_an_empty_one(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("sys.stdout", None)
    assert fibflow("enqueue", "resize", "-") == 2
    assert "payload: b'' is not JSON" in capsys.readouterr().err
    assert fibflow("cron", "next", "* * * * *") == 0
    sys.stdin.close()
    sys.stdout.close()


def test_help_documents_the_exit_codes(capsys):
    assert fibflow("--help") == 0
    assert "2 bad input" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "a\rb", "\u202egnp", "\x07", "\u2028"])
def test_what_a_terminal_would_obey_is_taken_out(text):
    assert "\ufffd" in cli_output.plain(text)
    assert not set(cli_output.plain(text)) & set("\x1b\x9b\r\u202e\x07\u2028")


def test_markup_is_shown_as_it_is(capsys):
    screen = cli_output.Screen()
    screen.print(cli_output.table({"name": lambda row: row}, ["[red]x[/red] \x1b[2J"]))
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert "\x1b" not in shown


def test_a_closed_pipe_is_quiet():
    command = f"{sys.executable} -m fibflow cron next '* * * * * *' -n 1000 -o json | head -c 1"
    env = {**os.environ, "PYTHONPATH": str(WORKER)}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], env=env, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
