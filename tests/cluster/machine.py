"""A machine: its own network, mounts, processes, host name and IPC, on the one kernel that is here.

Its first process is `pause`, which reaps; ending that ends every process of the machine at once, and with the last of
them go its mounts and its network. The machine sees the file system it was started on, under covers: what it writes
to /etc and /var goes to its own folder, and /run is its own. It has a network, but no cable: that is network.py.
"""

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import cgroups
from .waiting import until

NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc")
COVERS = """
mount --make-rshared /
hostname "$1"
mount -t tmpfs -o mode=755 tmpfs /run
for name in etc var; do
    mount -t overlay -o "lowerdir=/$name,upperdir=$2/$name,workdir=$2/work-$name" overlay "/$name"
done
mkdir -p /run/netns
ip link set lo up
"""
# In the background and out of our hands: what is started is adopted by the machine's first process.
DETACH = 'log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!'


class Machine:
    """One machine of that name, whose files are in `folder`; it may be up already, started by another process of ours."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.cgroup = cgroups.name(folder)
        self._pid: int | None = None
        self._commands: dict[str, Sequence[str]] = {}

    def boot(self, pause: Path, hosts: str, resolv: str, lifeline: int | None = None) -> None:
        """Make the namespaces; `hosts` and `resolv` are what /etc/hosts and /etc/resolv.conf say there.

        `lifeline` is the reading end of a pipe: the machine ends when nobody holds the other end any more.
        """
        for part in ("etc", "var", "work-etc", "work-var", "log", "pid"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "etc/hosts").write_text(hosts)
        (self.folder / "etc/resolv.conf").write_text(resolv)
        cgroups.create(self.cgroup)
        self._first_process(pause, lifeline)
        self.run("sh", "-ec", COVERS, "sh", self.name, str(self.folder))

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command in the machine to its end and return what it printed; a failure says what it complained of."""
        done = subprocess.run(self.inside(*command), input=text, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command[:6])}: exit {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def show(self, folder: Path, at: str) -> None:
        """Let the machine see a folder at another place, too, which it may make."""
        folder.mkdir(parents=True, exist_ok=True)
        self.run("mkdir", "-p", at)
        self.run("mount", "--bind", str(folder), at)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command in the machine."""
        return ["nsenter", "--target", str(self.pid), *NAMESPACES, "--wdns=/", "--", *command]

    def start(self, daemon: str, *command: str, descriptors: Sequence[int] = ()) -> None:
        """Start a daemon; its log is log/DAEMON.log. It inherits the file descriptors that are named."""
        log = self.folder / "log" / f"{daemon}.log"
        detached = self.inside("sh", "-c", DETACH, "sh", str(log), *command)
        pid = subprocess.run(detached, check=True, stdout=subprocess.PIPE, text=True, pass_fds=descriptors).stdout
        (self.folder / "pid" / daemon).write_text(pid)
        self._commands[daemon] = command

    def send(self, daemon: str, signal_: signal.Signals) -> None:
        """Send a daemon of this machine a signal."""
        self.run("sh", "-c", f"kill -{signal_.value} {self._pid_of(daemon)}")

    def stop(self, daemon: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a daemon, by default by the signal that nothing survives; return when it has ended."""
        self.send(daemon, how)
        until(lambda: not self.runs(daemon), 30, f"{daemon} ends")

    def runs(self, daemon: str) -> bool:
        """Whether the daemon's process is there."""
        probe = self.inside("test", "-e", f"/proc/{self._pid_of(daemon)}")
        return subprocess.run(probe).returncode == 0

    def restart(self, daemon: str) -> None:
        """Start a daemon again as this process has started it before; what it inherited it does not inherit again."""
        self.start(daemon, *self._commands[daemon])

    def kill(self) -> None:
        """End every process of the machine at once, as a power cut does, and take its cgroups away."""
        if pid := _first_processes(self.folder).get(self.folder):
            _end(pid)
        self._pid = None
        cgroups.remove(self.cgroup)

    @property
    def pid(self) -> int:
        """The machine's first process, by its number out here."""
        if self._pid is None:
            self._pid = _first_processes(self.folder)[self.folder]
        return self._pid

    def _first_process(self, pause: Path, lifeline: int | None) -> None:
        unshare = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--propagation", "private"]
        command = ["setsid", *unshare, str(pause), str(self.folder), *(["lifeline"] if lifeline else [])]
        # Its parent outside is a shell that is gone at once, so that nobody here has to wait for it.
        adopted = ["sh", "-c", 'exec 3<&0; "$@" <&3 &', "sh", *command]
        held = lifeline or subprocess.DEVNULL
        with (
            (self.folder / "log/init.log").open("w") as log,
            subprocess.Popen(adopted, stdin=held, stdout=subprocess.PIPE, stderr=log, text=True) as started,
        ):
            if not started.stdout or started.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{self.name}: no namespaces: does the kernel let root make them?")

    def _pid_of(self, daemon: str) -> int:
        """By its number in the machine."""
        return int((self.folder / "pid" / daemon).read_text())


def kill_all(folder: Path) -> None:
    """End the machines under a folder, nodes first, whoever started them and whatever has become of their files."""
    for place in sorted(_first_processes(folder), reverse=True):
        Machine(place.name, place).kill()
    for group in cgroups.of(folder):
        cgroups.remove(group)


def _first_processes(folder: Path) -> dict[Path, int]:
    """The first processes of the machines in or under a folder, by the machine's own."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        program, place = _told(entry)
        if program.startswith("pause-") and place.is_relative_to(folder):
            found[place] = int(entry.name)
    return found


def _told(process: Path) -> tuple[str, Path]:
    """A process's program and its first argument."""
    try:
        program, argument, *_ = [*(process / "cmdline").read_bytes().split(b"\0"), b"", b""]
    except (FileNotFoundError, ProcessLookupError):
        return "", Path()
    return Path(os.fsdecode(program)).name, Path(os.fsdecode(argument))


def _end(pid: int) -> None:
    """Kill a process that need not be our child, and wait until the kernel is done with it."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], 30)
    finally:
        os.close(descriptor)
