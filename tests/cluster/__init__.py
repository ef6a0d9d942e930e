"""A real Kubernetes for tests, on one Linux machine, without Docker and without an image registry.

`Cluster` is the whole of it, `python -m cluster` its command line, and README.md the map. Nothing here knows what is
tested on it: the folder can be taken into a project of its own.
"""

from .access import Access
from .cluster import Cluster, remove
from .means import lacking
from .waiting import until

__all__ = ["Access", "Cluster", "lacking", "remove", "until"]
