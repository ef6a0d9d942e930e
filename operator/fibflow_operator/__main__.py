"""`python -m fibflow_operator`: one operator process, from its options or environment to its end."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
import threading

import click
from prometheus_client import disable_created_metrics

from fibflow import encoding
from fibflow.errors import FibflowError, InvalidInput, one_line, sentence
from fibflow.logs import Levels, configure, logger
from fibflow.store.database import Database
from fibflow_operator.election import Times
from fibflow_operator.kube.api import Api
from fibflow_operator.leading import Periods
from fibflow_operator.program import Operator, Settings

log = logger(__name__)
DEEPEST_DECODED = 60_000
"""Frames: the API server stores JSON of ten thousand levels, and Python's decoder is to take it."""
STACK = 64 * 1024 * 1024


@click.command()
@click.option("--database", envvar="FIBFLOW_DATABASE", required=True, help="postgresql://USER@HOST/NAME")
@click.option("--installation", envvar="FIBFLOW_INSTALLATION", required=True, help="The id that the database is marked with.")
@click.option("--namespaces", envvar="FIBFLOW_WATCH_NAMESPACES", default="", help="Those to watch, with commas; none: all.")
@click.option("--lease-namespace", envvar="FIBFLOW_NAMESPACE", default="default", show_default=True)
@click.option("--lease-name", envvar="FIBFLOW_LEASE", default="fibflow-operator", show_default=True)
@click.option("--identity", envvar="FIBFLOW_POD_ID", default=socket.gethostname, help="The pod's name.")
@click.option("--kubeconfig", envvar="FIBFLOW_KUBECONFIG", default=None, help="Left out: the pod's service account.")
@click.option("--port", envvar="FIBFLOW_PORT", default=8080, show_default=True, type=click.IntRange(0, 65535))
@click.option("--lease", default=10.0, show_default=True, type=click.FloatRange(1), help="Seconds until another may lead.")
@click.option("--list-every", default=60.0, show_default=True, type=click.FloatRange(0.1), help="Seconds.")
@click.option("--look-every", default=5.0, show_default=True, type=click.FloatRange(0.1), help="Seconds.")
@click.option("--log-level", envvar="FIBFLOW_LOG_LEVEL", default="INFO", show_default=True)
def main(
    database: str,
    installation: str,
    namespaces: str,
    identity: str,
    kubeconfig: str | None,
    lease: float,
    list_every: float,
    look_every: float,
    log_level: str,
    lease_namespace: str,
    lease_name: str,
    port: int,
) -> None:
    """Sync TaskTypes, CronTasks and WorkerPools into the database until SIGTERM."""
    configure(Levels(log_level.upper()))
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series for each counter's birth, which nobody asks for
    settings = Settings(
        installation=installation,
        identity=f"{identity}_{secrets.token_hex(4)}",  # a process, not a pod: who restarts is another
        namespaces=tuple(filter(None, (part.strip() for part in namespaces.split(",")))),
        lease_namespace=lease_namespace,
        lease_name=lease_name,
        port=port,
        times=Times(lease, lease * 0.7, lease * 0.2),
        periods=Periods(list_every, look_every),
    )
    _allow_deep_values()
    try:
        asyncio.run(_serve(database, kubeconfig, settings))
    except FibflowError as error:
        click.echo(f"fibflow operator: {one_line(sentence(error))}", err=True)
        sys.exit(2)


def _allow_deep_values() -> None:
    """Threads decode what the API server sends; no resource may be too deep for them."""
    sys.setrecursionlimit(DEEPEST_DECODED)
    threading.stack_size(STACK)


async def _serve(url: str, kubeconfig: str | None, settings: Settings) -> None:
    encoding.text(settings.installation, "installation", longest=253)
    await Operator(Api(kubeconfig), _database(url), settings).run()


def _database(url: str) -> Database:
    database = Database(url, statement_timeout=15, pool_size=8)
    if not database.postgresql:
        raise InvalidInput("database", database.url.get_backend_name(), "is for one machine; an operator needs PostgreSQL")
    return database


if __name__ == "__main__":
    main()
