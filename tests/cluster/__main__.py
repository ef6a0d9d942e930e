"""`python -m cluster build | up | down`: the cluster for a person at a terminal."""

import argparse
import os
import sys
import time
from pathlib import Path

from . import cluster, images, means, programs


def main() -> int:
    """Do what the command line says."""
    options = _options()
    return {"build": _build, "up": _up, "down": _down}[options.command](options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    parser.add_argument("command", choices=("build", "up", "down"))
    parser.add_argument("--folder", type=Path, default=Path("build/cluster"), help="where the cluster's files go (%(default)s)")
    parser.add_argument("--nodes", type=int, default=2, help="how many nodes it has (%(default)s)")
    return parser.parse_args()


def _build(_options: argparse.Namespace) -> int:
    """Build what is missing; where that cannot be, say so, which is a failure only when CI is to show everything."""
    if os.environ.get("KUBECONFIG"):
        print("cluster: KUBECONFIG is set: the tests use that cluster")
        return 0
    if reason := means.lacking():
        print(f"cluster: the tests that need a cluster are left out: {reason}; set KUBECONFIG to use another")
        return 1 if os.environ.get("CI") == "true" else 0
    programs.build()
    images.pause()
    images.base()
    return 0


def _up(options: argparse.Namespace) -> int:
    if reason := means.lacking():
        print(f"cluster: not here: {reason}", file=sys.stderr)
        return 1
    programs.build()
    begin = time.monotonic()
    started = cluster.Cluster(options.folder, options.nodes)
    started.start()
    print(f"cluster: {options.nodes} nodes are Ready after {time.monotonic() - begin:.1f} s")
    print(f"    export KUBECONFIG={started.kubeconfig} PATH={started.commands}:$PATH   # kubectl, helm, helm4")
    print(f"    PostgreSQL, from here: {started.postgres.url(address='127.0.0.1', port=started.postgres_port)}")
    print(f"    PostgreSQL, from a pod: {started.postgres.url()}")
    return 0


def _down(options: argparse.Namespace) -> int:
    cluster.remove(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
