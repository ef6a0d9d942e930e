"""A cluster that was stopped has left nothing: what is compared is everything that it makes while it is up."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import Cluster, cgroups, remove
from e2e import pods

TESTS = Path(__file__).parents[1]
WRITTEN = (
    "/etc",
    "/run",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/lib/kubelet",
    "/usr/libexec",
    Path.home() / ".kube/cache/discovery",
)


@pytest.fixture
def small(own_cluster: Cluster, tmp_path: Path) -> Cluster:
    """Another cluster, of one node; `own_cluster` has seen to it that one can be had."""
    return Cluster(tmp_path / "cluster", nodes=1)


def traces(folder: Path) -> dict[str, object]:
    """What is there of a cluster in that folder, and what it might have changed of the machine's own."""
    return {
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "cluster" in line],
        "links": output("ip", "-brief", "link"),
        "rules": output("iptables-save"),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "groups": cgroups.of(folder),
        "processes": [pid for pid in Path("/proc").glob("[0-9]*") if str(folder).encode() in content(pid / "cmdline")],
        "folders": {place: sorted(os.listdir(place)) for place in WRITTEN if Path(place).exists()},
        "files": folder.exists(),
    }


def networks() -> set[str]:
    """The network namespaces that processes are in."""
    return {os.readlink(entry) for entry in Path("/proc").glob("[0-9]*/ns/net") if os.path.lexists(entry)}


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_a_stopped_cluster_has_left_nothing(small, image):
    before = traces(small.folder)
    small.start()
    small.load_image(Path(__file__).parent / "probe", "probe")
    small.apply(pods.pod("forever", image, "import signal; signal.pause()"))
    small.wait("condition=Ready", "pod/forever")
    ours = {os.readlink(f"/proc/{machine.pid}/ns/net") for machine in (small.control.machine, small.nodes[0].machine)}
    during = traces(small.folder)
    assert during["processes"] and during["files"] and len(ours & networks()) == 2
    small.stop()
    assert traces(small.folder) == before
    assert not ours & networks()


def test_a_cluster_can_be_removed_without_the_files_of_its_start(small):
    before = traces(small.folder)
    small.start()
    small.folder.rename(small.folder.with_name("elsewhere"))
    remove(small.folder)
    assert traces(small.folder) == before


STARTER = """
import pathlib, sys, cluster
cluster.Cluster(pathlib.Path(sys.argv[1]), nodes=1, lifeline=True).start()
print("up", flush=True)
sys.stdin.read()
"""


def test_a_cluster_on_a_lifeline_ends_with_the_process_that_started_it(small):
    command = ["env", f"PYTHONPATH={TESTS}", sys.executable, "-c", STARTER, str(small.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout and starter.stdout.readline() == "up\n"
        machine = os.pidfd_open(small.control.machine.pid)
        starter.kill()
        ended, _, _ = select.select([machine], [], [], 10)
        os.close(machine)
    remove(small.folder)
    assert ended


def test_a_start_that_fails_leaves_nothing(small, monkeypatch):
    before = traces(small.folder)
    monkeypatch.setattr(small.postgres, "start", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small.start()
    assert traces(small.folder) == before
