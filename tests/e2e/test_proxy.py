"""The proxy in front of the API server: what it lets through, what it remembers, and each fault it makes."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client import ApiClient, ApiException, CoreV1Api, V1ConfigMap, V1ObjectMeta
from kubernetes.watch import Watch
from urllib3.exceptions import HTTPError, ProtocolError

from cluster import Access
from cluster.faults import Answer, Cut, Gone, Latency, Lost
from e2e import pods

CONFIG_MAPS = {"resource": "configmaps"}


@pytest.fixture
def core(proxy, cluster, tmp_path) -> Iterator[CoreV1Api]:
    """The official client, as user "ann" through the proxy, without retries of its own."""
    cluster.apply(ADMIN)
    client = Access(proxy.kubeconfig(tmp_path / "ann", "ann", ("testers",))).api
    client.rest_client.pool_manager.connection_pool_kw["retries"] = False
    with client:
        yield CoreV1Api(client)


ADMIN = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: testers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: testers}]
"""


def create(core: CoreV1Api, namespace: str, name: str) -> None:
    core.create_namespaced_config_map(namespace, V1ConfigMap(metadata=V1ObjectMeta(name=name)))


def test_a_call_goes_through_as_its_user_and_is_remembered(proxy, core, namespace):
    create(core, namespace, "one")
    (call,) = proxy.journal.wait_for(verb="create", user="ann")
    assert (call.group, call.resource, call.namespace, call.status, call.writes) == ("", "configmaps", namespace, 201, True)


def test_the_api_server_judges_the_user_and_not_the_proxy(proxy, core):
    with pytest.raises(ApiException) as refused:
        core.list_node()
    assert refused.value.status == 403 and 'User \\"ann\\" cannot list resource \\"nodes\\"' in str(refused.value.body)
    assert proxy.journal.calls(verb="list", resource="nodes", user="ann")[0].status == 403


def test_a_call_without_credentials_is_anonymous(proxy, core, cluster):
    configuration = core.api_client.configuration
    configuration.cert_file = configuration.key_file = None
    with ApiClient(configuration) as nobody, pytest.raises(ApiException) as refused:
        CoreV1Api(nobody).list_namespace()
    assert refused.value.status == 403
    assert proxy.journal.calls(user="system:anonymous")


def test_a_pod_goes_through_by_its_token(proxy, own_cluster, namespace, image):
    ask = f"""
import json, ssl, urllib.request
place = "/var/run/secrets/kubernetes.io/serviceaccount/"
request = urllib.request.Request("https://10.87.0.1:{proxy.port_inside}/api/v1/namespaces/{namespace}/pods")
request.add_header("Authorization", "Bearer " + open(place + "token").read())
try:
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=place + "ca.crt"))
except urllib.error.HTTPError as refused:
    print(json.load(refused)["message"])
"""
    own_cluster.apply(pods.pod("client", image, ask), namespace)
    own_cluster.wait("jsonpath={.status.phase}=Succeeded", "pod/client", namespace=namespace)
    user = f"system:serviceaccount:{namespace}:default"
    assert f'User "{user}" cannot list resource "pods"' in own_cluster.kubectl("logs", "--namespace", namespace, "client")
    assert proxy.journal.calls(verb="list", resource="pods", user=user)[0].status == 403


def test_a_watch_is_not_held_back(proxy, core, namespace):
    with watching(core, namespace) as events:
        proxy.journal.wait_for(verb="watch", **CONFIG_MAPS)
        create(core, namespace, "late")
        assert events.next_named("late", seconds=5)["type"] == "ADDED"


def test_a_watch_that_begins_is_answered_410_in_the_stream(proxy, core, namespace):
    with proxy.fault(Gone(), times=1, verb="watch"), pytest.raises(ApiException) as gone:
        list(Watch().stream(core.list_namespaced_config_map, namespace, resource_version="1", timeout_seconds=5))
    assert gone.value.status == 410


def test_a_watch_that_runs_is_ended_by_410(proxy, core, namespace):
    with watching(core, namespace) as events:
        proxy.journal.wait_for(verb="watch", **CONFIG_MAPS)
        assert proxy.expire(**CONFIG_MAPS) == 1
        assert events.failure(seconds=5).status == 410


def test_a_429_says_when_to_come_again(proxy, core, namespace):
    with proxy.fault(Answer(429, retry_after=7), times=1, verb="create"), pytest.raises(ApiException) as refused:
        create(core, namespace, "one")
    headers: Any = refused.value.headers
    assert (refused.value.status, headers["Retry-After"]) == (429, "7")
    create(core, namespace, "one")


def test_a_500_befalls_only_the_calls_that_fit(proxy, core, namespace):
    with proxy.fault(Answer(500), verb="list", **CONFIG_MAPS) as rule:
        for _ in range(2):
            with pytest.raises(ApiException, match="500"):
                core.list_namespaced_config_map(namespace)
        core.list_namespaced_secret(namespace)
    assert rule.hits == 2
    assert [call.status for call in proxy.journal.calls(fault="Answer")] == [500, 500]
    core.list_namespaced_config_map(namespace)


def test_latency_holds_a_call_back(proxy, core, namespace):
    with proxy.fault(Latency(0.5), verb="list"):
        begin = time.monotonic()
        core.list_namespaced_config_map(namespace)
        assert time.monotonic() - begin >= 0.5


def test_a_cut_call_never_arrives(proxy, core, namespace):
    with proxy.fault(Cut(), verb="create"), pytest.raises(HTTPError):
        create(core, namespace, "one")
    assert "one" not in names(core, namespace)


def test_a_lost_answer_belongs_to_a_call_that_was_carried_out(proxy, core, namespace):
    with proxy.fault(Lost(), verb="create"), pytest.raises(HTTPError):
        create(core, namespace, "one")
    assert "one" in names(core, namespace)


def test_a_running_watch_can_be_cut(proxy, core, namespace):
    with watching(core, namespace) as events:
        proxy.journal.wait_for(verb="watch", **CONFIG_MAPS)
        assert proxy.cut(**CONFIG_MAPS) == 1
        assert isinstance(events.failure(seconds=5), ProtocolError)


def test_in_an_outage_nothing_goes_and_afterwards_all_does(proxy, core, namespace):
    with watching(core, namespace) as events:
        proxy.journal.wait_for(verb="watch", **CONFIG_MAPS)
        with proxy.outage():
            assert isinstance(events.failure(seconds=5), ProtocolError)
            with pytest.raises(HTTPError, match="refused"):
                core.list_namespaced_config_map(namespace)
        assert "kube-root-ca.crt" in names(core, namespace)


def names(core: CoreV1Api, namespace: str) -> set[Any]:
    listed: list[Any] = core.list_namespaced_config_map(namespace).items
    return {found.metadata.name for found in listed}


class watching:
    """`with watching(…) as events:` a watch of a namespace's ConfigMaps in a thread of its own."""

    def __init__(self, core: CoreV1Api, namespace: str) -> None:
        self._events: list[dict[str, Any]] = []
        self._failure: Exception | None = None
        self._more = threading.Condition()
        self._watch = Watch()
        self._thread = threading.Thread(target=self._run, args=(core, namespace))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_failure):
        self._watch.stop()
        self._thread.join()

    def next_named(self, name: str, seconds: float):
        """The first event of the object of that name."""
        with self._more:
            assert self._more.wait_for(lambda: self._named(name), seconds), f"no event of {name}"
            return self._named(name)[0]

    def failure(self, seconds: float):
        """What ended the watch."""
        with self._more:
            assert self._more.wait_for(lambda: self._failure, seconds), "the watch goes on"
            return self._failure

    def _named(self, name: str):
        return [event for event in self._events if event["object"].metadata.name == name]

    def _run(self, core: CoreV1Api, namespace: str) -> None:
        try:
            for event in self._watch.stream(core.list_namespaced_config_map, namespace, timeout_seconds=10):
                with self._more:
                    self._events.append(event)
                    self._more.notify_all()
        except Exception as failure:
            with self._more:
                self._failure = failure
                self._more.notify_all()
