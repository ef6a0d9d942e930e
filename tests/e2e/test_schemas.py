"""The resources' schemas, judged by a real API server: each rule and bound accepts one object and refuses another."""

import copy
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from e2e.planes import DEFINITIONS, FULL
from fibflow import schemas
from fibflow_operator.workload_cache import contains
from unit import bounds
from unit.bounds import Case
from unit.test_resources import ACCEPTED, REFUSED
from unit.test_resources import resource as minimal


@pytest.fixture(scope="module")
def asked(definitions, cluster):
    """Who is asked what it would take, without anything being stored."""
    return cluster


def ask(asked, kind: str, body: dict[str, Any]) -> tuple[int, str]:
    """Ask whether it would be created; what the API server answers."""
    path = f"/apis/fibflow.dev/v1alpha1/namespaces/default/{kind.lower()}s"
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    query = [("dryRun", "All"), ("fieldValidation", "Strict")]
    request = asked.api.param_serialize("POST", path, query_params=query, header_params=headers, body=body)
    answer = asked.api.call_api(*request)
    return answer.status, answer.read().decode()


def dry(asked, kind: str, body: dict[str, Any], expected: int = 201) -> str:
    """The same, of which the status is known; what is answered."""
    status, text = ask(asked, kind, body)
    assert status == expected, text
    return text


def by_schema(kind, field, value) -> bool:
    """Whether the schema itself refuses it; what it cannot say becomes a condition. No client of ours sends a null."""
    return bool(schemas.faults(kind, minimal(kind, **{field: value}))) and value is not None


@pytest.mark.parametrize(("kind", "field", "value"), ACCEPTED)
def test_what_is_right_is_accepted(asked, kind, field, value):
    dry(asked, kind, minimal(kind, **{field: value}))


SCHEMA_REFUSES: list[tuple[str, str, Any]] = [
    (kind, field, value) for kind, field, value, _ in REFUSED if by_schema(kind, field, value)
]
A_KEY = {"name": "a", "key": "b"}
CEL_REFUSES: list[tuple[str, str, Any]] = [
    ("TaskType", "retry", {"backoffSeconds": 5, "maxBackoffSeconds": 4}),
    ("CronTask", "retry", {"backoffSeconds": 5, "maxBackoffSeconds": 4}),
    ("TaskType", "worker", {"app": "a:b", "scaling": {"minReplicas": 3, "maxReplicas": 2}}),
    ("WorkerPool", "env", [{"name": "FIBFLOW_POD_ID", "value": "x"}]),
    ("WorkerPool", "env", [{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]),
    ("WorkerPool", "env", [{"name": "A"}]),
    ("WorkerPool", "env", [{"name": "A", "valueFrom": {}}]),
    ("WorkerPool", "env", [{"name": "A", "valueFrom": {"secretKeyRef": A_KEY, "configMapKeyRef": A_KEY}}]),
    ("WorkerPool", "scaling", {"minReplicas": 3, "maxReplicas": 2}),
    ("WorkerPool", "labels", {"fibflow.dev/pool": "other"}),
    ("WorkerPool", "labels", {"app.kubernetes.io/name": "other"}),
    ("WorkerPool", "annotations", {"fibflow.dev/note": "x"}),
]


def tried(cases: Iterable[Case]) -> list[Case]:
    """All that are about fields of our own, and of the others some; in the full run all."""
    found = list(cases)
    others = [case for case in found if not case.is_own]
    return [case for case in found if case.is_own] + (others if FULL else others[::9])


def test_every_bound_of_every_field_takes_what_is_at_it_and_nothing_beyond(asked):
    def accepted(case: Case) -> bool:
        return ask(asked, case.kind, case.body)[0] == 201

    def refused(case: Case) -> bool:
        status, said = ask(asked, case.kind, case.body)
        return status == 422 and f"{case.place}: " in said

    with ThreadPoolExecutor(8) as several:
        for is_right, cases in ((accepted, tried(bounds.accepted())), (refused, tried(bounds.refused()))):
            answers = several.map(is_right, cases)
            assert [case for case, right in zip(cases, answers, strict=True) if not right] == []


@pytest.mark.parametrize(("kind", "field", "value"), SCHEMA_REFUSES + CEL_REFUSES)
def test_what_is_wrong_is_refused(asked, kind, field, value):
    assert f"spec.{field}" in dry(asked, kind, minimal(kind, **{field: value}), expected=422)


TRANSITIONS = ("name cannot be changed", "replicas cannot be changed")
"""The rules about what was there before, which tests of their own try below."""


def rules(kind: str) -> set[str]:
    """What the rules of a kind's schema say when they refuse."""
    messages: set[str] = set()

    def collect(schema: Any) -> None:
        messages.update(rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
        for part in (*schema.get("properties", {}).values(), schema.get("items")):
            if part:
                collect(part)

    (file,) = (file for file in DEFINITIONS if file.stem == kind.lower())
    collect(yaml.safe_load(file.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    return messages


@pytest.mark.parametrize("kind", schemas.kinds())
def test_every_rule_has_refused_something(asked, kind):
    own = minimal("WorkerPool")["spec"]
    wrong = [minimal(kind, **{field: value}) for of, field, value in CEL_REFUSES if of == kind]
    if kind == "TaskType":
        wrong += [minimal(kind, worker={**own, field: value}) for of, field, value in CEL_REFUSES if of == "WorkerPool"]
        wrong.append(minimal(kind, worker=own, workerPoolRef={"name": "pool"}))
    said = "\n".join(dry(asked, kind, body, expected=422) for body in wrong)
    assert {
        message for message in rules(kind) if message not in said and not any(rule in message for rule in TRANSITIONS)
    } == set()


def test_the_workers_of_a_types_own_take_what_a_pool_takes_and_stand_beside_no_pool(asked):
    own = minimal("WorkerPool")["spec"]
    for _, field, value in (each for each in ACCEPTED if each[0] == "WorkerPool"):
        made = json.loads(dry(asked, "TaskType", minimal("TaskType", worker={**own, field: value})))
        assert contains(made["spec"]["worker"][field], value)
    both = minimal("TaskType", worker=own, workerPoolRef={"name": "pool"})
    assert "give either workerPoolRef or worker" in dry(asked, "TaskType", both, expected=422)


@pytest.mark.parametrize("kind", schemas.kinds())
def test_a_name_has_at_most_forty_two_characters(asked, kind):
    body = minimal(kind)
    dry(asked, kind, {**body, "metadata": {"name": "x" * 42}})
    assert "metadata.name" in dry(asked, kind, {**body, "metadata": {"name": "x" * 43}}, expected=422)


@pytest.mark.parametrize("kind", schemas.kinds())
def test_an_unknown_field_is_refused_by_strict_validation(asked, kind):
    body = copy.deepcopy(minimal(kind))
    body["spec"]["nonsense"] = 1
    assert "nonsense" in dry(asked, kind, body, expected=400)


def test_defaults_are_filled_in_and_inherited_fields_have_none(asked):
    found = {kind: json.loads(dry(asked, kind, minimal(kind)))["spec"] for kind in schemas.kinds()}
    assert found["TaskType"] == {"deletionPolicy": "Drain"}
    left = {"concurrencyPolicy": "Forbid", "missedRunPolicy": "RunLatest", "suspend": False, "pauseOnFailure": True}
    assert {name: found["CronTask"][name] for name in left} == left and len(found["CronTask"]) == len(left) + 2
    secret = {"name": "fibflow-database", "key": "dsn"}
    plain = {"app": "shop.tasks:app", "slots": 10, "replicas": 1, "drainSeconds": 30}
    assert found["WorkerPool"] == {**plain, "databaseSecretRef": secret}
    scaled = json.loads(dry(asked, "WorkerPool", minimal("WorkerPool", scaling={})))["spec"]["scaling"]
    wanted = {"policy": "Fixed", "minReplicas": 0, "maxReplicas": 10, "targetWaitSeconds": 10, "scaleDownDelaySeconds": 60}
    assert scaled == wanted
    own = json.loads(dry(asked, "TaskType", minimal("TaskType", worker=minimal("WorkerPool")["spec"])))["spec"]["worker"]
    assert own == found["WorkerPool"]


def test_a_volume_of_the_node_is_no_field(asked):
    volumes = [{"name": "host", "hostPath": {"path": "/"}}]
    assert "hostPath" in dry(asked, "WorkerPool", minimal("WorkerPool", volumes=volumes), expected=400)


@pytest.mark.parametrize(
    ("before", "after", "accepted"),
    [
        ({"name": "a"}, {"name": "a", "timeoutSeconds": 5}, True),
        ({}, {"timeoutSeconds": 5}, True),
        ({"name": "a"}, {"name": "b"}, False),
        ({"name": "a"}, {}, False),
        ({}, {"name": "a"}, False),
    ],
)
def test_the_name_of_a_task_type_cannot_be_changed_added_or_removed(plane, before, after, accepted):
    plane.cluster.kubectl("create", "-n", plane.namespace, "-f", "-", text=json.dumps(minimal("TaskType", **before)))
    replace = ("replace", "-n", plane.namespace, "-f", "-")
    if accepted:
        plane.cluster.kubectl(*replace, text=json.dumps(minimal("TaskType", **after)))
        return
    with pytest.raises(RuntimeError, match="name cannot be changed, added or removed"):
        plane.cluster.kubectl(*replace, text=json.dumps(minimal("TaskType", **after)))


def test_the_scale_of_a_pool_is_read_and_written(plane):
    plane.apply(minimal("WorkerPool"))
    plane.cluster.kubectl("scale", "-n", plane.namespace, "workerpool/it", "--replicas=3")
    assert plane.get("WorkerPool", "it")["spec"]["replicas"] == 3


def test_replicas_go_with_the_change_to_the_backlog_and_cannot_be_changed_under_it(plane):
    """Whoever leaves the number to the backlog takes `replicas` from the manifest in the same change."""
    plane.apply(minimal("WorkerPool", replicas=3))
    plane.apply(minimal("WorkerPool", scaling={"policy": "Backlog"}))
    assert plane.get("WorkerPool", "it")["spec"]["replicas"] == 1
    with pytest.raises(RuntimeError, match="replicas cannot be changed"):
        plane.apply(minimal("WorkerPool", scaling={"policy": "Backlog"}, replicas=2))
    plane.apply(minimal("WorkerPool", replicas=2))
    assert plane.get("WorkerPool", "it")["spec"]["replicas"] == 2


def fields(schema, path):
    yield path
    for name, part in schema.get("properties", {}).items():
        yield from fields(part, f"{path}.{name}")
    if "items" in schema:
        yield from list(fields(schema["items"], path))[1:]


def own_fields() -> list[str]:
    found = []
    for file in DEFINITIONS:
        definition = yaml.safe_load(file.read_text())["spec"]
        root = definition["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            found += fields(root["properties"][part], f"{definition['names']['plural']}.{part}")
    return [path for path in found if not path.startswith("tasktypes.spec.worker.")]  # the same as a pool's


def test_every_field_has_text_where_kubectl_explain_reads_it(asked):
    described = json.loads(asked.kubectl("get", "--raw", "/openapi/v3/apis/fibflow.dev/v1alpha1"))["components"]["schemas"]
    kinds = {f"{kind.lower()}s": described[f"dev.fibflow.v1alpha1.{kind}"] for kind in schemas.kinds()}
    for path in own_fields():
        plural, *names = path.split(".")
        part = kinds[plural]
        for name in names:
            part = part.get("items", part)["properties"][name]
        assert len(part.get("description", "")) > 10, path


def test_fields_are_explained(asked):
    for path in own_fields() if FULL else own_fields()[::9]:
        said = asked.kubectl("explain", path)
        assert "<empty>" not in said and len(said.partition("DESCRIPTION:")[2].strip()) > 10, path


def test_one_word_lists_all_three_with_columns_that_tell(plane):
    pool = {**minimal("WorkerPool")}
    plane.apply(minimal("TaskType"), minimal("CronTask"), pool)
    said = plane.cluster.kubectl("get", "fibflow", "-n", plane.namespace)
    for column in ("READY", "PENDING", "SCHEDULE", "NEXT", "OUTCOME", "REPLICAS", "APP"):
        assert column in said
    assert plane.cluster.kubectl("get", "tt,ct,wp", "-n", plane.namespace, "-o", "name").count("/it") == 3


@pytest.mark.parametrize("file", DEFINITIONS, ids=lambda file: file.stem)
def test_a_definition_is_small_enough_to_be_applied_by_the_client(file):
    assert len(json.dumps(yaml.safe_load(file.read_text()))) <= 200 * 1024
