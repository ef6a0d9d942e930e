"""Calls to a slow API server: what is told to many holds up neither the lead nor what is done about pods."""

import asyncio
import socket
import threading
from typing import Any

import pytest
import yaml

from fibflow.store.database import Database
from fibflow.store.synced import Name
from fibflow_operator.kube import resources, workloads
from fibflow_operator.kube.api import Api, ApiRefused
from fibflow_operator.kube.leases import Lease
from fibflow_operator.program import Operator, Settings
from fibflow_operator.world import seen

MANY = 100
"""Statuses or pods, more than there are threads."""


METADATA = {"name": "pool", "namespace": "here", "uid": "u1", "resourceVersion": "1"}
POOL = seen({"kind": "WorkerPool", "metadata": METADATA, "spec": {}})


def nowhere(folder) -> Api:
    """A server that is not asked."""
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}], "current-context": "x"}
    (folder / "config").write_text(yaml.safe_dump(config))
    return Api(str(folder / "config"))


class Leases:
    """A Lease that can be had at once."""

    def read(self) -> Lease | None:
        return None

    def write(self, before: Lease | None, holder: str) -> Lease | None:
        return Lease(holder, 0, "now", "1")


def test_a_connection_that_went_silent_is_found_out_within_seconds(tmp_path):
    """What is followed is silent for a minute when nothing happens; for as long nobody would hear of a pod that goes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pools = nowhere(tmp_path)._client.rest_client.pool_manager
        connection: Any = pools.connection_from_host("127.0.0.1", server.getsockname()[1], "http")._get_conn()
        connection.connect()
        idle, interval, count = (connection.sock.getsockopt(socket.IPPROTO_TCP, option) for option in KEEPING)
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert idle + interval * count < 15
        connection.close()


@pytest.mark.parametrize(
    ("refused", "gone"),
    [
        (ApiRefused(404, "not found"), True),
        (ApiRefused(409, "Precondition failed: UID in precondition: u1, UID in object meta: u2"), True),
        (ApiRefused(409, "the object has been modified; please apply your changes to the latest version"), False),
    ],
)
def test_a_status_is_nobodys_where_its_resource_is_gone_and_tried_again_where_others_write(refused, gone):
    class Refusing:
        def call(self, *request: Any, **named: Any) -> Any:
            raise refused

    api: Any = Refusing()
    if gone:
        assert resources.write_status(api, POOL, {}) is None
        return
    with pytest.raises(ApiRefused):
        resources.write_status(api, POOL, {})


KEEPING = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)


@pytest.mark.parametrize(("wish", "pause"), [(0, 0), (7, 7), (3600, 60), (float("inf"), 60), (float("nan"), 0), (-1, 0)])
def test_a_server_is_believed_for_a_minute_that_it_is_not_to_be_asked_again(wish, pause):
    """An hour, as a proxy says that is being mended, would be an hour in which nobody looks after a pod."""
    assert ApiRefused(503, "later", retry_after=wish).retry_after == pause


def test_what_is_slow_holds_up_neither_what_is_more_urgent_nor_the_lead(tmp_path, monkeypatch):
    go_on = threading.Event()

    def slow(*told):
        go_on.wait(30)

    async def course():
        operator = Operator(nowhere(tmp_path), Database("sqlite://"), Settings("test/x", "me", (), "here", "lead", 0))
        through, operator._election.leases = operator._through, Leases()
        monkeypatch.setattr(resources, "write_status", slow)
        monkeypatch.setattr(workloads, "pod_uid", lambda api, pod: pod.name)
        waiting: list[Any] = [asyncio.ensure_future(through.write_status(POOL, {})) for _ in range(MANY)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(10):
                assert await through.pod_uid(Name("here", "pod")) == "pod"
                monkeypatch.setattr(workloads, "pod_uid", slow)
                waiting += [asyncio.ensure_future(through.pod_uid(Name("here", "pod"))) for _ in range(MANY)]
                await asyncio.sleep(0)
                assert await operator._election._try() is not None
        finally:
            go_on.set()
        await asyncio.gather(*waiting)

    asyncio.run(course())
