"""What can befall nodes, containers, the API server and the database, each by itself, and the way back.

A pod on node2 writes to the database twenty times a second: who is cut off from what is read from whether it does.
"""

from collections.abc import Iterator

import pytest

from cluster import Cluster, until
from cluster.network import BRIDGE, BRIDGE_ADDRESS, Direction
from cluster.node import Node
from e2e import pods

# It connects anew when it has to, and gives up on a connection that is silent for a second.
BEAT = """
import psycopg, time
while True:
    try:
        with psycopg.connect("{url}", autocommit=True, connect_timeout=2, tcp_user_timeout=1000) as connection:
            while True:
                connection.execute("INSERT INTO {table} DEFAULT VALUES")
                time.sleep(0.05)
    except psycopg.OperationalError as failure:
        print(failure)
"""


class Writer:
    """The pod that writes, and when it last did."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.table = namespace.replace("-", "_")

    def start(self, image: str) -> None:
        self.cluster.postgres.sql(f"CREATE TABLE {self.table} (at timestamptz DEFAULT clock_timestamp())")
        program = BEAT.format(url=self.cluster.postgres.url(), table=self.table)
        self.cluster.apply(pods.pod("writer", image, program, nodeName="node2", restartPolicy="Always"), self.namespace)
        self.cluster.wait("condition=Ready", "pod/writer", namespace=self.namespace)
        self.writes()

    def silence(self) -> float:
        """The age of the last beat, in seconds."""
        age = "coalesce(extract(epoch FROM clock_timestamp() - max(at)), 1e6)"
        return float(self.cluster.postgres.sql(f"SELECT {age} FROM {self.table}"))

    def beats(self) -> int:
        """How often it has written."""
        return int(self.cluster.postgres.sql(f"SELECT count(*) FROM {self.table}"))

    def writes(self) -> None:
        until(lambda: self.silence() < 0.5, 60, "the pod writes")

    def is_silent(self) -> None:
        until(lambda: self.silence() > 1.5, 10, "the pod is silent")


@pytest.fixture
def writer(own_cluster: Cluster, namespace: str, image: str) -> Iterator[Writer]:
    """A pod on node2 that writes."""
    started = Writer(own_cluster, namespace)
    started.start(image)
    yield started


@pytest.fixture
def node(own_cluster: Cluster) -> Node:
    """The second node."""
    return own_cluster.nodes[1]


def test_a_node_without_its_api_server_is_lost_and_its_pod_writes_on(own_cluster, writer, node):
    node.cut(Direction.API)
    own_cluster.wait("condition=Ready=Unknown", "node/node2", seconds=30)
    assert writer.silence() < 1
    node.heal(Direction.API)
    own_cluster.wait("condition=Ready", "node/node2", seconds=30)


def test_a_node_without_the_database_is_ready_and_its_pod_silent(own_cluster, writer, node):
    node.cut(Direction.DATABASE)
    writer.is_silent()
    own_cluster.wait("condition=Ready", "node/node2", seconds=1)
    node.heal(Direction.DATABASE)
    writer.writes()


def test_a_node_without_its_cable_has_neither(own_cluster, writer, node):
    node.cut(Direction.CABLE)
    writer.is_silent()
    own_cluster.wait("condition=Ready=Unknown", "node/node2", seconds=30)
    node.heal(Direction.CABLE)
    own_cluster.wait("condition=Ready", "node/node2", seconds=30)
    writer.writes()


def test_a_killed_node_comes_back(own_cluster, writer, node):
    router = ("ip", "-brief", "link", "show", "dev", BRIDGE)
    node.kill()
    writer.is_silent()
    own_cluster.wait("condition=Ready=Unknown", "node/node2", seconds=30)
    assert BRIDGE_ADDRESS in own_cluster.control.machine.run(*router), "the other node would lose its way"
    node.start()
    own_cluster.wait("condition=Ready", "node/node2", seconds=30)
    assert BRIDGE_ADDRESS in own_cluster.control.machine.run(*router), "the other node would lose its way"
    writer.writes()


def test_a_paused_container_does_nothing_until_it_is_resumed(own_cluster, writer, namespace):
    node, container = own_cluster.node_of("writer", namespace), own_cluster.container_of("writer", namespace)
    node.pause(container)
    writer.is_silent()
    node.resume(container)
    writer.writes()


def test_pods_go_on_while_the_api_server_is_away(own_cluster, writer):
    own_cluster.control.machine.stop("kube-apiserver")
    with pytest.raises(RuntimeError):
        own_cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=1s")
    assert writer.silence() < 1
    own_cluster.control.machine.restart("kube-apiserver")
    own_cluster.control.wait_until_ready()
    own_cluster.wait("condition=Ready", "node/node1", "node/node2")


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_the_database_goes_and_comes_back(own_cluster, writer, end):
    before = writer.beats()
    getattr(own_cluster.postgres, end)()
    own_cluster.postgres.restart()
    assert writer.beats() >= before
    writer.writes()
