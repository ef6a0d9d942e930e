"""`fibflow dev` without a database: which processes are wanted, and how they are kept."""

import os
import signal
import sys
import time

import pytest

from fibflow import replicas
from fibflow.dev import absolute, stamps, wanted
from fibflow.errors import InvalidInput
from fibflow.model import Options
from fibflow.replicas import Pause, Pod, Pods, ending, pause_after
from fibflow.resource_values import Manifests, TaskTypeResource, WorkerPoolResource

STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);open(sys.argv[1], 'w').close(); time.sleep(60)"
)


@pytest.fixture
def said():
    return []


@pytest.fixture
def pods(said):
    kept = Pods(said.append)
    yield kept
    kept.kill()


def pod(folder, *command, drain=5.0, name="pool-0"):
    return Pod(name, (sys.executable, *command), {}, folder, drain)


def turn_until(pods, done, seconds=10.0):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        pods.turn()
        time.sleep(0.01)


def pool(**fields):
    given = {"name": "pool", "app": "app:app", "slots": 4, "replicas": 2, "drain": 7, "env": (), "image": None}
    return WorkerPoolResource(**{**given, **fields})


def test_a_pod_for_each_replica(tmp_path):
    manifests = Manifests(tmp_path / "manifests", (), (), (pool(env=(("LEVEL", "x"),)), pool(name="none", replicas=0)))
    found = wanted(manifests, "postgresql://u:secret@h/d", "ns")
    assert list(found) == ["pool-0", "pool-1"]
    first = found["pool-0"]
    assert first.folder == tmp_path
    assert first.command[1:4] == ("-m", "fibflow_worker", "app:app")
    assert first.command[4:-1] == (
        "--namespace",
        "ns",
        "--slots",
        "4",
        "--pod-id",
        "pool-0",
        "--pool",
        "pool",
        "--unbound",
        "--drain",
        "7",
    )
    assert first.command[-1] == "--exit-with-parent"
    assert first.env["FIBFLOW_DATABASE"] == "postgresql://u:secret@h/d"
    assert first.env["LEVEL"] == "x"
    assert first.drain > 7, "a worker whose drain is over must have time to write what it interrupted"
    assert first.env["PYTHONPATH"].split(os.pathsep)[0] == str(tmp_path)


def test_a_type_with_workers_of_its_own_has_pods_that_run_nothing_else(tmp_path):
    own = pool(name="TaskType.resize", replicas=1, type="re size")
    kind = TaskTypeResource("resize", "re size", None, Options(), None, False, "TaskType.resize", own)
    (found,) = wanted(Manifests(tmp_path, (kind,), (), ()), "sqlite:///a.db", "ns").values()
    assert (found.id, found.command[-2:]) == ("TaskType.resize-0", ("--type", "re size"))
    assert found.command[found.command.index("--pool") + 1] == "TaskType.resize"


def test_a_file_is_named_whole_for_processes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert absolute("postgresql://u:p@h/d") == "postgresql://u:p@h/d"
    with pytest.raises(InvalidInput, match="in memory"):
        absolute("sqlite://")


def test_a_change_of_a_file_is_seen(tmp_path):
    assert stamps(tmp_path) == ()
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    before = stamps(tmp_path)
    os.utime(file, ns=(1, 1))
    assert stamps(tmp_path) != before
    (tmp_path / "b.yaml").symlink_to("nowhere")
    assert len(stamps(tmp_path)) == 1


def test_pauses_double_to_a_bound_and_begin_again_after_a_long_life():
    pause, lengths = None, []
    for _ in range(8):
        pause = pause_after(1.0, pause, now=100.0)
        lengths.append(pause.length)
    assert lengths == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert pause == Pause(105.0, 5.0)
    assert pause_after(10.1, pause, now=100.0) == Pause(100.1, 0.1)


def test_an_ending_is_told():
    assert (ending(3), ending(-9), ending(-signal.SIGRTMIN - 1)) == ("exit code 3", "SIGKILL", "signal 35")


def test_a_process_that_dies_is_started_again_under_its_name(pods, said, tmp_path):
    pods.want({"pool-0": pod(tmp_path, "-c", "import time; time.sleep(60)")})
    pods.turn()
    first = int(said[0].split()[-1].rstrip(")"))
    os.kill(first, signal.SIGKILL)
    turn_until(pods, lambda: len(said) == 3)
    assert said[1] == f"pool-0 ended (pid {first}, SIGKILL); starts again in 0.1 s"
    assert said[2].startswith("pool-0 started")


REFUSES = ("-c", "import sys; sys.exit(2)")


def test_a_pod_whose_first_process_ends_for_bad_input_is_refused(pods, said, tmp_path):
    pods.begin({"pool-0": pod(tmp_path, *REFUSES)})
    turn_until(pods, lambda: pods.refused)
    pods.turn()
    assert (pods.refused, pods.running) == ("pool-0", 0)
    assert [told.split(" (")[0] for told in said] == ["pool-0 started", "pool-0 ended"]


def test_a_pod_that_has_worked_or_came_later_is_started_again_after_bad_input(pods, said, tmp_path):
    once = "import os, sys; sys.exit(2 if os.path.exists('ran') else open('ran', 'w').close() or 1)"
    pods.begin({"pool-0": pod(tmp_path, "-c", once), "changed-0": pod(tmp_path, "-c", "0", name="changed-0")})
    later = {name: pod(tmp_path, *REFUSES, name=name) for name in ("changed-0", "new-0")}
    pods.want({"pool-0": pod(tmp_path, "-c", once), **later})
    starting = ("pool-0 ended", "changed-0 ended", "new-0 ended")
    turn_until(pods, lambda: all(any(told.startswith(each) and "exit code 2" in told for told in said) for each in starting))
    assert pods.refused is None
    assert all("starts again in" in told for told in said if "exit code 2" in told)


def test_a_pod_that_ends_for_bad_input_after_a_long_life_is_started_again(pods, said, tmp_path, monkeypatch):
    monkeypatch.setattr(replicas, "LONG_LIFE", 0)
    pods.begin({"pool-0": pod(tmp_path, *REFUSES)})
    turn_until(pods, lambda: len(said) > 1)
    assert pods.refused is None
    assert "starts again in" in said[1]


def test_a_command_that_is_not_there_is_tried_again(pods, said, tmp_path):
    pods.want({"a-0": Pod("a-0", ("/nowhere",), {}, tmp_path, 1)})
    turn_until(pods, lambda: len(said) == 2)
    assert "did not start" in said[0]


def test_what_is_not_wanted_is_stopped(pods, said, tmp_path):
    pods.want({"pool-0": pod(tmp_path, "-c", "import time; time.sleep(60)")})
    pods.turn()
    pods.want({})
    turn_until(pods, lambda: pods.running == 0)
    assert said[-1].startswith("pool-0 stopped")
    assert "SIGTERM" in said[-1]


def test_what_does_not_drain_in_time_is_killed(pods, said, tmp_path):
    ready = tmp_path / "ready"
    pods.want({"pool-0": pod(tmp_path, "-c", STUBBORN, str(ready), drain=0.2)})
    turn_until(pods, ready.exists)
    pods.want({})
    turn_until(pods, lambda: pods.running == 0)
    assert "SIGKILL" in said[-1]


def test_a_changed_command_replaces_its_process(pods, said, tmp_path):
    pods.want({"pool-0": pod(tmp_path, "-c", "import time; time.sleep(60)")})
    pods.turn()
    pods.want({"pool-0": pod(tmp_path, "-c", "import time; time.sleep(61)")})
    turn_until(pods, lambda: len(said) == 3)
    assert [line.split()[1] for line in said] == ["started", "stopped", "started"]
    assert pods.running == 1
