"""What the tests on a cluster share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import Access, Cluster
from cluster.proxy import Proxy
from e2e import planes

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
