"""`fibflow dev`: a folder of manifests, run on this machine as a cluster would run it.

Migrates the database, applies the manifests, keeps one worker process for each replica of each WorkerPool and of each type
with workers of its own, and does all of it again when a file changes; files that are wrong leave the last good ones in
force. Manifests are read in `resources`, processes are kept by `replicas`; what a worker does is not known here.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fibflow import resources
from fibflow.errors import FibflowError, InvalidInput
from fibflow.replicas import Pod, Pods
from fibflow.resource_values import Manifests, WorkerPoolResource
from fibflow.store.address import parse_url, sqlite_path
from fibflow.store.database import Database
from fibflow.store.sqlite_file import check_place

TURN = 0.05
"""Seconds between two looks at the processes."""
LOOK = 1.0
"""Seconds between two looks at the files."""
LAST_WRITES = 5
"""Seconds that a worker has, once its drain is over, to write down what it interrupted; then it is killed."""

REFUSED = "cannot work with what it was given, and has said why; mend that, and start again"

Say = Callable[[str], None]
Stamps = tuple[tuple[str, int, int], ...]


def run(path: Path, url: str, namespace: str, say: Say) -> None:
    """Run manifests until SIGINT or SIGTERM. Raises InvalidManifest, and what the database raises, before it starts;
    InvalidInput when a worker cannot work with what its pool gives it."""
    check_place(url)
    url = absolute(url)
    path = Path(os.path.abspath(path))  # links that lead in a circle are told by whoever reads them
    manifests = resources.read(path, namespace)
    from fibflow.store.migrate import migrate

    migrate(url)
    database = Database(url, namespace=namespace)
    try:
        watch = Watch(path, database, manifests, say)
        _serve(watch, Pods(say), lambda current: wanted(current, url, namespace))
    finally:
        database.close()


def absolute(url: str) -> str:
    """The same database for a process that works in another folder. Raises InvalidInput for one in memory."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return url
    file = sqlite_path(parsed)
    if file is None:
        raise InvalidInput("database", url, "is in memory, where no worker process reaches it; write sqlite:///FILE")
    return parsed.set(drivername="sqlite", database=str(file.resolve())).render_as_string(hide_password=False)


def wanted(manifests: Manifests, url: str, namespace: str) -> dict[str, Pod]:
    """A pod for each replica that there is to be, by its id."""
    folder = manifests.folder.resolve().parent
    return {
        pod_id: _pod(pool, pod_id, folder, url, namespace)
        for pool in manifests.fleets
        for pod_id in (f"{pool.name}-{number}" for number in range(pool.replicas))
    }


def _pod(pool: WorkerPoolResource, pod_id: str, folder: Path, url: str, namespace: str) -> Pod:
    command = (sys.executable, "-m", "fibflow_worker", pool.app)
    options = (
        *("--namespace", namespace, "--slots", str(pool.slots), "--pod-id", pod_id),
        *("--pool", pool.name, "--unbound"),
        *("--drain", str(pool.drain), "--exit-with-parent"),
        *(("--type", pool.type) if pool.type is not None else ()),
    )
    env = dict(pool.env)
    # The URL may hold a password, and everybody can read a command line.
    env["FIBFLOW_DATABASE"] = url
    env["PYTHONPATH"] = os.pathsep.join(_import_path(folder, env.get("PYTHONPATH")))
    return Pod(pod_id, command + options, env, folder, pool.drain + LAST_WRITES)


def _import_path(folder: Path, own: str | None) -> Iterator[str]:
    """The folder above the manifests, the one we are in, what the pool names, then ours: what we import a worker imports."""
    yield from dict.fromkeys((str(folder), str(Path.cwd())))
    for text in (own, os.environ.get("PYTHONPATH")):
        yield from (str(Path(part).resolve()) for part in (text or "").split(os.pathsep) if part)


@dataclass(slots=True)
class Watch:
    """The manifests in force, and the files that they came from."""

    path: Path
    database: Database
    manifests: Manifests
    say: Say
    stamps: Stamps = ()
    unapplied: bool = True
    waiting: tuple[str, ...] = ()
    complaint: str = ""

    def start(self) -> None:
        """Apply the manifests. Raises what the database raises."""
        self.stamps = stamps(self.path)
        self._apply()

    def look(self) -> None:
        """Read the files again if they changed; apply what is not applied yet. What goes wrong is said."""
        try:
            self._read_again()
            if self.unapplied or self.waiting:
                self._apply()
            self.complaint = ""
        except FibflowError as error:
            self._complain(f"the last good manifests stay in force: {error}")

    def _complain(self, complaint: str) -> None:
        """Say what is wrong, once while it stays the same."""
        if complaint != self.complaint:
            self.complaint = complaint
            self.say(complaint)

    def _read_again(self) -> None:
        found = stamps(self.path)
        if found == self.stamps:
            return
        self.stamps = found
        self.manifests = resources.read(self.path, self.database.namespace)
        self.unapplied = True

    def _apply(self) -> None:
        applied = resources.apply(self.database, self.manifests)
        if self.unapplied:
            counts = len(applied.task_types), len(applied.cron_tasks), len(self.manifests.worker_pools)
            self.say("applied {} task types, {} cron tasks, {} worker pools".format(*counts))
            for remark in remarks(self.manifests, applied):
                self.say(remark)
        elif applied.waiting != self.waiting:
            self.say(f"in force now: {', '.join(sorted(set(self.waiting) - set(applied.waiting)))}")
        self.unapplied, self.waiting = False, applied.waiting


def remarks(manifests: Manifests, applied: resources.Applied) -> Iterator[str]:
    """What the manifests say that has no effect here, or not yet."""
    for cron_task in manifests.cron_tasks:
        if cron_task.name in applied.waiting:
            type_name = manifests.type_of(cron_task)
            yield f"cron task {cron_task.name} waits: no TaskType here and no worker has declared its type {type_name} yet"
    for pool in manifests.fleets:
        if pool.image is not None:
            owner = f"worker pool {pool.name}" if pool.type is None else f"the worker of task type {pool.type}"
            yield f"{owner}: its image {pool.image} is not used here, a replica is a process"
    for name in applied.deleted:
        yield f"cron task {name}: deleted with its ticks, no file declares it any more; its tasks stay"
    for name, pool_name in applied.unserved:
        yield f"task type {name}: {_unserved(pool_name)}; a TaskType binds it by its workerPoolRef"
    for name in applied.left:
        yield f"task type {name}: no file declares it any more; what its TaskType said stays in force"


def stamps(path: Path) -> Stamps:
    """What changes when a file does. A folder that is gone has none."""
    try:
        found = [(file, file.stat()) for file in resources.files(path)]
    except (OSError, FibflowError):
        return ()
    return tuple((str(file), stat.st_mtime_ns, stat.st_size) for file, stat in found)


def _unserved(pool: str | None) -> str:
    if pool is None:
        return "bound to no pool: all workers here run it, on a cluster no pool's workers do"
    return f"bound to pool {pool}, so no worker here runs it"


def _serve(watch: Watch, pods: Pods, pods_of: Callable[[Manifests], dict[str, Pod]]) -> None:
    with _stop_signals() as signals:
        try:
            watch.start()
            _turn_until_stopped(watch, pods, pods_of, signals)
            _drain(pods, watch.say, signals)
            if pods.refused:
                raise InvalidInput("worker", pods.refused, REFUSED)
        finally:
            pods.kill()


def _turn_until_stopped(watch: Watch, pods: Pods, pods_of: Callable[[Manifests], dict[str, Pod]], signals: list[int]) -> None:
    look_at = time.monotonic() + LOOK
    pods.begin(pods_of(watch.manifests))
    while not (signals or pods.refused):
        pods.turn()
        if time.monotonic() >= look_at:
            watch.look()
            pods.want(pods_of(watch.manifests))
            look_at = time.monotonic() + LOOK
        time.sleep(TURN)


def _drain(pods: Pods, say: Say, signals: list[int]) -> None:
    """Let the workers finish; a second signal ends them at once."""
    if not pods.running:
        return
    say(f"stopping {pods.running} workers; stop again to end them at once")
    pods.want({})
    pods.turn()
    while pods.running and len(signals) < 2:
        time.sleep(TURN)
        pods.turn()


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The stop signals that came so far."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, action in before.items():
            signal.signal(number, action)
