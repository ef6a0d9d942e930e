"""What the tests on a cluster share."""

from pathlib import Path

import pytest

from cluster import Cluster

PROBE = Path(__file__).parent / "probe"


@pytest.fixture(scope="session")
def image(own_cluster: Cluster) -> str:
    """An image with Python and a PostgreSQL driver, on every node."""
    return own_cluster.load_image(PROBE, "probe")
