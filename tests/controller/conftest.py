"""What the tests of the operator's parts share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def url(request, postgres_server, postgres_template) -> Iterator[str]:
    """A database that the tests of a file share; each has a namespace of its own."""
    yield postgres_server.create(request.module.__name__.rpartition(".")[2], postgres_template)
