"""Workers as pods: a WorkerPool becomes a Deployment whose pods run tasks; what keeps them from it is said, and mended."""

import json
from functools import partial
from typing import Any

import pytest

from cluster import Cluster, until
from e2e.figures import record
from e2e.fleets import bound, container_id, pods_of, pool, secret
from e2e.planes import FULL, ONLY_IN_FULL, quiet, task_type
from e2e.sightings import Sightings, sightings
from fibflow import Client, Status
from fibflow_operator.workload_cache import contains
from unit.test_resources import ACCEPTED

OF_THE_CONTAINER = {"resources", "envFrom", "volumeMounts", "imagePullPolicy"}
OF_THE_POD = {
    *("serviceAccountName", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"),
    *("imagePullSecrets", "priorityClassName", "volumes", "podSecurityContext"),
}
LABELLED = {"labelSelector": {"matchLabels": {"team": "shop"}}}
APART = {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", **LABELLED}}
AFFINITY = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [APART]}}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", **LABELLED}
"""With nothing in them that is empty, which the API server leaves out."""
NAMED_OTHERWISE = {"podSecurityContext": "securityContext"}


@pytest.fixture
def client(staffed):
    with Client(staffed.url, namespace=staffed.namespace) as opened:
        yield opened


def deployment(plane, name="pool-pool"):
    return json.loads(plane.cluster.kubectl("get", "deployment", name, "-n", plane.namespace, "-o", "json"))


def completed(client, task_id, seconds=60):
    until(lambda: client.get(task_id).status is Status.COMPLETED, seconds, f"task {task_id} completes")


def test_a_pool_becomes_pods_that_run_tasks_and_a_settled_one_is_left_alone(staffed, client, fleet_image):
    staffed.apply(pool(fleet_image, replicas=2), bound())
    staffed.start()
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    completed(client, client.enqueue("work", {"seconds": 0.1}))
    until(lambda: staffed.get("WorkerPool", "pool")["status"]["ready"] == 2, 30, "both are ready")
    status = staffed.get("WorkerPool", "pool")["status"]
    assert (status["replicas"], status["selector"]) == (2, "fibflow.dev/pool=pool")
    made = deployment(staffed)
    assert made["metadata"]["ownerReferences"][0]["kind"] == "WorkerPool"
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert staffed.cluster.field(".spec.maxUnavailable", "pdb/pool-pool", namespace=staffed.namespace) == "1"
    rows = staffed.sql("SELECT pod_id, pod_uid, pool FROM fibflow.worker WHERE status = 'active'")
    assert set(rows) == {(pod["metadata"]["name"], pod["metadata"]["uid"], "pool") for pod in pods_of(staffed)}
    until(lambda: quiet(lambda: len(staffed.api_writes()), 11), 90, "nothing is written any more")
    idle = [working_set(staffed.cluster, pod) for pod in pods_of(staffed)]
    assert record("R6", "a worker's pod that idles: MiB of its working set", idle, 100, 100), idle


def working_set(cluster: Cluster, pod: dict[str, Any]) -> float:
    """In MiB."""
    node = next(node for node in cluster.nodes if node.name == pod["spec"]["nodeName"])
    return node.working_set(container_id(pod)) / (1 << 20)


def test_every_pod_setting_of_a_pool_reaches_its_pods_as_it_was_given(staffed):
    given = {field: value for kind, field, value in ACCEPTED if kind == "WorkerPool" and field in OF_THE_POD | OF_THE_CONTAINER}
    given |= {"affinity": AFFINITY, "topologySpreadConstraints": [SPREAD]}
    assert given.keys() == OF_THE_POD | OF_THE_CONTAINER
    staffed.apply(pool("shop:1", replicas=0, **given))
    staffed.start()
    until(lambda: staffed.get("WorkerPool", "pool").get("status", {}).get("selector"), 30, "its Deployment is made")
    kept, pod = staffed.get("WorkerPool", "pool")["spec"], deployment(staffed)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for field, value in given.items():
        seen = (pod if field in OF_THE_POD else container)[NAMED_OTHERWISE.get(field, field)]
        assert kept[field] == value
        assert contains(among(seen, value), value), field


def among(seen: Any, wanted: Any) -> Any:
    """Of a list that may have more the last ones, as many as are wanted; anything else as it is."""
    return seen[-len(wanted) :] if isinstance(wanted, list) else seen


def test_a_type_may_have_workers_of_its_own_and_give_them_up_for_a_pool(staffed, client, fleet_image):
    own = {name: value for name, value in pool(fleet_image)["spec"].items() if name != "replicas"}
    staffed.apply(task_type("work", worker=own), pool(fleet_image, replicas=0))
    staffed.start()
    staffed.wait_condition("TaskType", "work", status="True", seconds=90)
    assert deployment(staffed, "work-type")["metadata"]["ownerReferences"][0]["kind"] == "TaskType"
    assert staffed.cluster.field(".spec.maxUnavailable", "pdb/work-type", namespace=staffed.namespace) == "1"
    first = client.enqueue("work", {"seconds": 2})
    staffed.wait_sql(["work"], "SELECT handlers::json FROM fibflow.worker WHERE pool = 'TaskType.work' AND status = 'active'")
    staffed.wait_sql("running", "SELECT state FROM fibflow.task WHERE id = %s", first)
    staffed.apply(bound(), pool(fleet_image))
    staffed.cluster.wait("delete", "deployment/work-type", "pdb/work-type", namespace=staffed.namespace)
    completed(client, first)
    second = client.enqueue("work")
    completed(client, second, seconds=90)
    pools = "SELECT w.pool FROM fibflow.attempt a JOIN fibflow.worker w ON w.id = a.worker_id WHERE a.task_id = %s"
    assert [staffed.sql(pools, each) for each in (first, second)] == [[("TaskType.work",)], [("pool",)]]
    staffed.wait_condition("TaskType", "work", status="True", reason="InForce")


def test_the_workers_of_a_types_own_go_with_it_what_runs_finishes_and_what_waits_is_cancelled(staffed, client, fleet_image):
    own = {name: value for name, value in pool(fleet_image, drainSeconds=20)["spec"].items() if name != "replicas"}
    staffed.apply(task_type("work", worker=own))
    staffed.start()
    staffed.wait_condition("TaskType", "work", status="True", seconds=90)
    run = [client.enqueue("work", {"seconds": 6}) for _ in range(2)]  # as many as it has slots
    staffed.wait_sql(2, "SELECT count(*) FROM fibflow.task WHERE state = 'running'")
    waits = client.enqueue("work")
    staffed.delete("TaskType", "work")
    staffed.cluster.wait("delete", "deployment/work-type", "pdb/work-type", namespace=staffed.namespace)
    until(lambda: client.get(waits).status is Status.CANCELLED, 20, "what waits is cancelled")
    assert "TypeDeleted" in (client.get(waits).error or "")
    for each in run:
        completed(client, each)
    assert staffed.sql("SELECT outcome, count(*) FROM fibflow.attempt GROUP BY 1") == [("completed", 2)]


# ── what keeps workers from it ────────────────────────────────────────────────────────────────────────────────────

BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-image": (
        {"image": "localhost/nowhere:1", "imagePullPolicy": "IfNotPresent"},
        "ImageUnavailable",
        "localhost/nowhere:1",
    ),
    "no-app": ({"app": "fleeet:app"}, "WorkerFailed", "No module named 'fleeet'"),
    "no-secret": ({"databaseSecretRef": {"name": "nowhere"}}, "ConfigurationMissing", 'secret "nowhere" not found'),
    "no-database": ({"databaseSecretRef": {"name": "wrong"}}, "WorkerFailed", "database: "),
    "no-node": ({"nodeSelector": {"disk": "none"}}, "Unschedulable", "didn't match"),
    "no-name": ({}, "NameTaken", "the Deployment no-name-pool belongs to somebody else"),
    "no-policy": ({"serviceAccountName": "nobody"}, "PodsRefused", 'serviceaccount "nobody" not found'),
    "no-field": ({"labels": {"team": "not/a/label"}}, "DeploymentRefused", "not/a/label"),
    "no-handler": ({}, "HandlerMissing", "no handler for 'nonsense'"),
}
"""By the pool's name: what is wrong, the reason that is told, and what the message says."""


def foreign(name):
    labels = {"matchLabels": {"app": name}}
    containers = [{"name": "main", "image": "localhost/pause:1"}]
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}}
    spec = {"replicas": 0, "selector": labels, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})


def test_what_ails_the_workers_is_said_in_the_pods_own_words_and_mending_it_goes_on_by_itself(staffed, client, fleet_image):
    wrong = secret("postgresql://postgres@10.87.0.1:5432/nowhere", "wrong")
    staffed.cluster.apply(wrong, staffed.namespace)
    staffed.cluster.apply(foreign("no-name-pool"), staffed.namespace)
    untouched = deployment(staffed, "no-name-pool")
    staffed.apply(*(pool(fleet_image, name, **spec) for name, (spec, _, _) in BROKEN.items()))
    staffed.apply(bound("no-handler", "nonsense"), bound("no-secret"))
    staffed.start("--list-every", "5")  # nobody tells of a Deployment that is not ours
    until(lambda: client.types(), 20, "the types are stored")
    waiting = client.enqueue("work")
    for name, (_, reason, phrase) in BROKEN.items():
        said = staffed.wait_condition("WorkerPool", name, status="False", reason=reason, seconds=90)
        assert phrase in said["message"] and said["message"].isprintable(), said
    assert client.get(waiting).status is Status.PENDING
    assert deployment(staffed, "no-name-pool") == untouched
    mend(staffed, fleet_image)
    for name in BROKEN.keys() - (() if FULL else PATIENT):
        staffed.wait_condition("WorkerPool", name, status="True", seconds=120)
    if FULL:
        completed(client, waiting)


PATIENT = {"no-secret", "no-database", "no-policy"}
"""What Kubernetes tries again only after a while."""


def mend(plane, image):
    """Everything that was missing is there, everything that was wrong is right."""
    inside = plane.cluster.kubectl("get", "secret", "fibflow-database", "-n", plane.namespace, "-o", "json")
    data = json.loads(inside)["data"]
    for name in ("nowhere", "wrong"):
        plane.cluster.apply(
            json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}), plane.namespace
        )
    plane.cluster.kubectl("delete", "deployment", "no-name-pool", "-n", plane.namespace)
    plane.cluster.kubectl("create", "serviceaccount", "nobody", "-n", plane.namespace)
    plane.delete("TaskType", "nonsense")
    mended: dict[str, dict[str, Any]] = {"no-image": {}, "no-app": {}, "no-node": {}, "no-field": {}}
    plane.apply(*(pool(image, name, **spec) for name, spec in mended.items()))


@ONLY_IN_FULL
def test_pods_that_a_quota_forbids_are_told_of_and_start_when_it_is_raised(staffed, fleet_image):
    quota = '{{"apiVersion":"v1","kind":"ResourceQuota","metadata":{{"name":"few"}},"spec":{{"hard":{{"pods":"{}"}}}}}}'
    staffed.cluster.apply(quota.format(0), staffed.namespace)
    staffed.cluster.wait("jsonpath={.status.hard.pods}=0", "resourcequota/few", namespace=staffed.namespace)
    staffed.apply(pool(fleet_image))
    staffed.start()
    said = staffed.wait_condition("WorkerPool", "pool", status="False", reason="PodsRefused", seconds=60)
    assert "exceeded quota: few" in said["message"]
    staffed.cluster.apply(quota.format(5), staffed.namespace)
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=120)


def test_a_setting_that_is_dropped_and_one_that_somebody_changed_are_put_right(staffed, fleet_image):
    staffed.apply(pool(fleet_image, labels={"team": "a"}, resources={"requests": {"memory": "0.0625Gi"}}))
    staffed.start()
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    staffed.apply(pool(fleet_image))
    until(lambda: "team" not in deployment(staffed)["spec"]["template"]["metadata"]["labels"], 20, "the label is dropped")
    patch = '{"spec": {"template": {"spec": {"enableServiceLinks": true}}}}'
    staffed.cluster.kubectl("patch", "deployment", "pool-pool", "-n", staffed.namespace, "--patch", patch)
    until(lambda: not deployment(staffed)["spec"]["template"]["spec"]["enableServiceLinks"], 20, "it is put right")
    staffed.cluster.kubectl("scale", "deployment", "pool-pool", "-n", staffed.namespace, "--replicas=3")
    until(lambda: deployment(staffed)["spec"]["replicas"] == 1, 20, "the scale is put right")
    staffed.cluster.kubectl("label", "deployment,pdb", "pool-pool", "-n", staffed.namespace, "fibflow.dev/pool-")
    labelled = r"jsonpath={.metadata.labels.fibflow\.dev/pool}=pool"
    staffed.cluster.wait(labelled, "deployment/pool-pool", "pdb/pool-pool", namespace=staffed.namespace)
    staffed.cluster.kubectl("delete", "deployment", "pool-pool", "-n", staffed.namespace)
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    until(lambda: deployment(staffed)["status"].get("readyReplicas") == 1, 60, "it is made anew")
    staffed.delete("WorkerPool", "pool")
    staffed.cluster.wait("delete", "deployment/pool-pool", namespace=staffed.namespace)


def test_a_pool_that_is_deleted_and_made_anew_at_once_gets_workers_of_its_own(staffed, client, fleet_image):
    staffed.apply(pool(fleet_image), bound())
    staffed.start()
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    staffed.delete("WorkerPool", "pool")
    staffed.apply(pool(fleet_image))
    uid = staffed.get("WorkerPool", "pool")["metadata"]["uid"]
    owner = (".items[*].metadata.ownerReferences[*].uid", "deployments,pdb")
    both = partial(staffed.cluster.field, *owner, namespace=staffed.namespace)
    until(lambda: both().split() == [uid, uid], 60, "what was the former pool's is gone, and made anew")
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    completed(client, client.enqueue("work"))


# ── under load ────────────────────────────────────────────────────────────────────────────────────────────────────


def rolling_update(plane, image):
    plane.apply(pool(image, replicas=3, slots=10, drainSeconds=30, env=[{"name": "AGAIN", "value": "1"}]))
    plane.wait_condition("WorkerPool", "pool", "Progressing", status="True", seconds=30)
    plane.wait_condition("WorkerPool", "pool", status="True", seconds=180)


def drained_node(plane, image):
    victims = {pod["spec"]["nodeName"] for pod in pods_of(plane)}
    node = sorted(victims)[0]
    with sightings(plane.cluster, plane.namespace) as seen:
        seen.wait(lambda each: each.name in {pod["metadata"]["name"] for pod in pods_of(plane)})
        emptied(plane, node)
        assert fewest_ready(seen) >= 2, "the disruption budget lets one go at a time"


def emptied(plane, node):
    try:
        plane.cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=240s")
        assert node not in {pod["spec"]["nodeName"] for pod in pods_of(plane)}
    finally:
        plane.cluster.kubectl("uncordon", node)


def fewest_ready(seen: Sightings) -> int:
    """The fewest pods that were Ready and stayed, at any time since all had been seen."""
    staying: dict[str, bool] = {}
    counts = []
    for each in seen.seen:
        staying[each.uid] = each.ready and not each.leaving and each.type != "DELETED"
        counts.append(sum(staying.values()))
    return min(counts[counts.index(max(counts)) :])


def scaled_down(plane, image):
    plane.cluster.kubectl("scale", "-n", plane.namespace, "workerpool/pool", "--replicas=1")
    until(lambda: len(pods_of(plane)) == 1, 60, "one worker stays")


@pytest.mark.parametrize(
    "act",
    [rolling_update, pytest.param(drained_node, marks=ONLY_IN_FULL), pytest.param(scaled_down, marks=ONLY_IN_FULL)],
    ids=lambda act: act.__name__,
)
def test_under_load_nothing_is_lost_done_twice_or_interrupted(staffed, client, fleet_image, act):
    staffed.apply(pool(fleet_image, replicas=3, slots=10, drainSeconds=30), bound())
    staffed.start()
    staffed.wait_condition("WorkerPool", "pool", status="True", seconds=90)
    many = 1000 if FULL else 200
    for number in range(many):
        client.enqueue("work", {"seconds": 1 + number % 3})
    staffed.wait_sql(True, "SELECT count(*) > 20 FROM fibflow.task WHERE state = 'running'")
    act(staffed, fleet_image)
    staffed.wait_sql(many, "SELECT count(*) FROM fibflow.task_final WHERE status = 'completed'", seconds=300)
    ended = staffed.sql("SELECT outcome, count(*) FROM fibflow.attempt GROUP BY 1")
    assert ended == [("completed", many)]
