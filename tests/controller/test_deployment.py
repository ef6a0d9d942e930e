"""Steps towards a Deployment: one after the other until all is as it should be, and what belongs to others is left alone."""

import asyncio
import copy

import pytest

from controller.ground import Ground
from fibflow_operator import deployment, names
from fibflow_operator.deployment import template
from fibflow_operator.fleet import fleet_of, rule_of
from fibflow_operator.steps import Step, next_step
from fibflow_operator.workload_cache import budget as read_budget
from fibflow_operator.workload_cache import contains, quantity
from fibflow_operator.workload_cache import deployment as read
from fibflow_operator.world import Key, Kind, seen


class Stubborn(Ground):
    """A server that writes a field as it likes."""

    async def apply(self, place, body):
        body = copy.deepcopy(body)
        body["spec"]["template"]["spec"]["nodeSelector"] = {"a": "B"}
        return await super().apply(place, body)


def fleet(**spec):
    return fleet_in("WorkerPool", "pool", {"app": "a:b", "image": "i:1", **spec})


def fleet_in(kind, name, spec):
    metadata = {"name": name, "namespace": "shop", "uid": "u1", "resourceVersion": "1"}
    resource = seen({"kind": kind, "metadata": metadata, "spec": spec})
    return fleet_of(resource, rule_of(resource.workers or {}))


def settle(ground, wanted, most=10):
    """Take steps until there is none left; the steps."""
    steps: list[Step] = []
    applied: dict[Step, tuple[str, int]] = {}
    for _ in range(most):
        raw, cover = ground.deployments.get(wanted.deployment), ground.budgets.get(wanted.deployment)
        seen, covered = read(raw) if raw else None, read_budget(cover) if cover else None
        step = next_step(wanted, seen, covered, applied.get(Step.APPLY), applied.get(Step.APPLY_BUDGET))
        if step is None:
            return steps
        steps.append(step)
        if step in (Step.REFUSE, Step.REFUSE_BUDGET):
            return steps
        now = asyncio.run(_take(ground, wanted, step))
        applied[step] = (now.digest or "", now.generation)
    raise AssertionError(f"it never settles: {steps}")


async def _take(ground, wanted, step):
    match step:
        case Step.CREATE:
            return await ground.create(wanted.deployment, deployment.seed(wanted))
        case Step.APPLY:
            return await ground.apply(wanted.deployment, deployment.applied_form(wanted))
        case Step.CREATE_BUDGET:
            return await ground.create_budget(wanted.deployment, deployment.applied_budget(wanted))
        case Step.APPLY_BUDGET:
            return await ground.apply_budget(wanted.deployment, deployment.applied_budget(wanted))


def test_a_deployment_is_made_empty_then_given_its_template():
    ground, wanted = Ground(), fleet()
    assert settle(ground, wanted) == [Step.CREATE, Step.CREATE_BUDGET, Step.APPLY]
    assert settle(ground, wanted) == []
    assert ground.done == ["create", "create budget", "apply"]
    assert "replicas" not in deployment.applied_form(wanted)["spec"]


def test_a_type_with_workers_of_its_own_has_a_deployment_that_runs_nothing_else():
    wanted = fleet_in("TaskType", "it", {"name": "Resize it", "worker": {"app": "a:b", "image": "i:1", "replicas": 3}})
    made = template(wanted)
    assert (wanted.deployment, wanted.replicas) == (("shop", "it-type"), 3)
    assert made["metadata"]["ownerReferences"][0]["kind"] == "TaskType"
    assert made["spec"]["selector"]["matchLabels"] == deployment.budget(wanted)["spec"]["selector"]["matchLabels"]
    assert made["spec"]["selector"]["matchLabels"] == {"fibflow.dev/pool": "TaskType.it"}
    env = {each["name"]: each.get("value") for each in made["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (env["FIBFLOW_POOL"], env["FIBFLOW_TYPE"]) == ("TaskType.it", "Resize it")


@pytest.mark.parametrize("kind", [Kind.WORKER_POOL, Kind.TASK_TYPE])
def test_from_a_pool_and_from_a_deployment_there_is_one_way_back(kind):
    key = Key(kind, "shop", "it")
    assert names.of_pool("shop", names.pool_of(key)) == names.of_deployment(names.deployment_of(key)) == key


def test_what_is_created_says_nothing_that_may_be_dropped_later():
    seed, whole = deployment.seed(fleet(nodeSelector={"a": "b"})), deployment.template(fleet())
    assert contains(whole["spec"]["template"], seed["spec"]["template"])
    assert seed["spec"]["replicas"] == 0


@pytest.mark.parametrize("owner", ["another", None])
def test_a_deployment_of_somebody_else_is_never_touched(owner):
    ground, wanted = Ground(), fleet()
    settle(ground, wanted)
    raw = ground.deployments[wanted.deployment]
    raw["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True}] if owner else [{"uid": "u1"}]
    assert settle(ground, fleet(slots=99)) == [Step.REFUSE]


@pytest.mark.parametrize("owner", ["another", None])
def test_a_budget_of_somebody_else_is_never_touched(owner):
    ground, wanted = Ground(), fleet()
    settle(ground, wanted)
    owners = [{"uid": owner, "controller": True}] if owner else [{"uid": "u1"}]
    ground.budgets[wanted.deployment]["metadata"]["ownerReferences"] = owners
    assert settle(ground, fleet(slots=99)) == [Step.REFUSE_BUDGET]


def test_a_budget_that_is_gone_is_made_again_and_one_that_somebody_changed_is_applied():
    ground, wanted = Ground(), fleet()
    settle(ground, wanted)
    ground.budgets[wanted.deployment]["spec"]["maxUnavailable"] = 0
    assert settle(ground, wanted) == [Step.APPLY_BUDGET]
    del ground.budgets[wanted.deployment]
    assert settle(ground, wanted) == [Step.CREATE_BUDGET]
    spec = ground.budgets[wanted.deployment]["spec"]
    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_another_spec_is_applied_and_so_is_one_that_somebody_changed():
    ground, wanted = Ground(), fleet()
    settle(ground, wanted)
    assert settle(ground, fleet(slots=7)) == [Step.APPLY]
    ground.deployments[wanted.deployment]["spec"]["template"]["spec"]["enableServiceLinks"] = True
    assert settle(ground, fleet(slots=7)) == [Step.APPLY]


def test_what_the_server_writes_in_its_own_way_is_not_applied_for_ever():
    ground = Stubborn()
    settle(ground, fleet(nodeSelector={"a": "b"}))
    assert len(ground.done) < 6 and settle(ground, fleet(nodeSelector={"a": "b"}), most=2)[1:] == []


def test_pods_run_under_restricted_security_with_what_they_need_to_know():
    pod = template(fleet(drainSeconds=20, databaseSecretRef={"name": "own"}))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    names = [entry["name"] for entry in container["env"]]
    assert names[:4] == ["FIBFLOW_POD_ID", "FIBFLOW_POD_UID", "FIBFLOW_NAMESPACE", "FIBFLOW_NODE"]
    assert {"name": "own", "key": "dsn"} in [entry.get("valueFrom", {}).get("secretKeyRef") for entry in container["env"]]
    assert container["securityContext"] == deployment.RESTRICTED
    assert (pod["automountServiceAccountToken"], pod["terminationGracePeriodSeconds"]) == (False, 35)
    assert "runAsUser" not in pod["securityContext"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_a_pool_with_a_tmp_of_its_own_gets_no_other():
    own = {"volumes": [{"name": "big", "emptyDir": {}}], "volumeMounts": [{"name": "big", "mountPath": "/tmp"}]}
    pod = template(fleet(**own))["spec"]["template"]["spec"]
    assert pod["volumes"] == own["volumes"] and pod["containers"][0]["volumeMounts"] == own["volumeMounts"]
    (mount,) = template(fleet())["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == "/tmp"


def test_labels_of_people_stand_beside_our_own():
    labels = template(fleet(labels={"team": "a"}))["spec"]["template"]["metadata"]["labels"]
    assert labels == {
        "team": "a",
        "app.kubernetes.io/name": "fibflow-worker",
        "app.kubernetes.io/managed-by": "fibflow",
        "fibflow.dev/pool": "pool",
    }


@pytest.mark.parametrize(
    ("seen", "wanted", "held"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([{"a": 1, "b": 2}], [{"a": 1}], True),
        ([1, 2], [1], False),
        ("1Gi", "1024Mi", True),
        ("500m", "0.5", True),
        ("1", 1, True),
        ("1Gi", "1G", False),
        ("a", "b", False),
        (None, {}, False),
    ],
)
def test_what_is_seen_contains_what_is_wanted(seen, wanted, held):
    assert contains(seen, wanted) is held


def test_only_amounts_are_quantities():
    assert [quantity(text) for text in ("i:1", "", None, True, "Gi")] == [None] * 5
