"""What the tests on a cluster share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import Access, Cluster
from cluster.proxy import Proxy
from e2e import fleets, grounds, planes
from fibflow.store.migrate import migrate

PROBE = Path(__file__).parent / "probe"


@pytest.fixture(scope="session")
def image(own_cluster: Cluster) -> str:
    """An image with Python and a PostgreSQL driver, on every node."""
    return own_cluster.load_image(PROBE, "probe")


@pytest.fixture(scope="session")
def definitions(cluster: Access) -> None:
    """The resources' definitions, served and explained."""
    cluster.install(*planes.DEFINITIONS)


@pytest.fixture
def plane(
    definitions: None, cluster: Access, proxy: Proxy, namespace: str, postgres_url: str, tmp_path: Path
) -> Iterator[planes.Plane]:
    """A control plane without an operator yet."""
    with planes.plane(cluster, proxy, namespace, postgres_url, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def fleet_image(own_cluster: Cluster) -> str:
    """The application of the tests of workers, on every node."""
    return own_cluster.give(fleets.application())


@pytest.fixture
def staffed(
    definitions: None, own_cluster: Cluster, proxy: Proxy, namespace: str, fleet_image: str, tmp_path: Path
) -> Iterator[planes.Plane]:
    """A control plane on the cluster's own database, which pods reach by the Secret that is there; no operator yet."""
    database = namespace.replace("-", "_")
    own_cluster.postgres.sql(f"CREATE DATABASE {database}")
    url = own_cluster.postgres.url(database, "127.0.0.1", own_cluster.postgres_port)
    migrate(url)
    own_cluster.apply(fleets.secret(own_cluster.postgres.url(database)), namespace)
    with planes.plane(own_cluster, proxy, namespace, url, tmp_path) as made:
        yield made


@pytest.fixture
def ground(staffed: planes.Plane, own_cluster: Cluster, fleet_image: str) -> Iterator[grounds.Ground]:
    """Two watched pods of a pool, and an operator."""
    with grounds.ground_on(staffed, own_cluster, fleet_image) as made:
        yield made
