"""A Kubernetes for the tests: our own, started once a run, or the one that KUBECONFIG names.

A test that takes `cluster` runs on either. One that takes `own_cluster` needs what only ours can do (its nodes, its
database, images without a registry) and is skipped on another. Where no cluster can be had, all of them are skipped
for one reason, said in one line; with CI=true that is a failure instead. How it is made is the story of tests/cluster.
"""

import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import Access, Cluster, lacking
from cluster.certificates import Authority
from cluster.proxy import Proxy

FOLDER = Path(__file__).parents[1] / "build" / "test-cluster"
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a cluster comes last: the other tests are quicker, and want the processors for themselves. After it comes
    only what looks back at the whole run."""
    items.sort(key=lambda item: (bool(_wanted(item)), item.get_closest_marker("last") is not None))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture, so that all that is left out is told from one place, as one line."""
    wanted = _wanted(item)
    if "own_cluster" in wanted or (wanted and not os.environ.get("KUBECONFIG")):
        leave_out()


def _wanted(item: pytest.Item) -> set[str]:
    return {"cluster", "own_cluster"} & set(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Access:
    """The cluster of this run: our own or another."""
    if kubeconfig := os.environ.get("KUBECONFIG"):
        return Access(Path(kubeconfig), (shutil.which("kubectl") or "kubectl",))
    started: Cluster = request.getfixturevalue("own_cluster")
    return started


@pytest.fixture(scope="session")
def own_cluster() -> Iterator[Cluster]:
    """Our own cluster of two nodes, with its database."""
    with _alone():
        started = Cluster(FOLDER, lifeline=True)
        started.start()
        yield started
        started.stop()


@pytest.fixture
def namespace(cluster: Access) -> Iterator[str]:
    """A fresh namespace, deleted at the end."""
    with cluster.namespace(f"test-{os.getpid()}-{next(_numbers)}") as name:
        yield name


@pytest.fixture
def proxy(cluster: Access, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy in front of the API server, to make faults and to see calls; our own cluster's pods reach it, too."""
    own = cluster if isinstance(cluster, Cluster) else None
    authority = own.control.authority if own else Authority(tmp_path / "authority")
    with Proxy(cluster.api.configuration, authority, own.control.machine if own else None) as serving:
        yield serving


def leave_out() -> None:
    """Skip the test, or fail it where everything is to be shown, if a cluster of our own cannot be had."""
    if os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is set: this needs the nodes and the database of a cluster of our own")
    if not (reason := lacking()):
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"a cluster is needed with CI=true: {reason}")
    pytest.skip(f"no cluster can be had here: {reason}")


@contextmanager
def _alone() -> Iterator[None]:
    """Two runs in one tree take turns: they would take each other's cluster away."""
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "test-cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
