"""Resource files: what is read, and what is refused with its file, its line and the way out."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fibflow import schemas
from fibflow.errors import InvalidManifest
from fibflow.model import ConcurrencyPolicy, MissedRunPolicy, Options
from fibflow.resources import read

MINIMAL: dict[str, dict[str, Any]] = {
    "TaskType": {},
    "CronTask": {"taskTypeRef": {"name": "resize"}, "schedule": "0 3 * * *"},
    "WorkerPool": {"app": "shop.tasks:app"},
}
POOL = {
    "apiVersion": "fibflow.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {"name": "pool"},
    "spec": {"app": "a:b"},
}

ACCEPTED = [
    ("TaskType", "name", "Resize it"),
    ("TaskType", "description", "Makes pictures small."),
    ("TaskType", "timeoutSeconds", 1),
    ("TaskType", "timeoutSeconds", 31_536_000),
    ("TaskType", "retry", {"maxAttempts": 1, "backoffSeconds": 0, "backoffFactor": 2, "maxBackoffSeconds": 60}),
    ("TaskType", "retry", {}),
    ("TaskType", "priority", -20),
    ("TaskType", "limits", {"perWorker": 1}),
    ("TaskType", "suspend", True),
    ("TaskType", "workerPoolRef", {"name": "pool"}),
    ("TaskType", "worker", {"app": "shop.tasks:app", "image": "shop:1", "env": [{"name": "LEVEL", "value": "x"}]}),
    ("TaskType", "deletionPolicy", "Retain"),
    ("TaskType", "deletionPolicy", "Drain"),
    ("TaskType", "deletionPolicy", "Cancel"),
    ("CronTask", "retry", {"backoffSeconds": 5, "maxBackoffSeconds": 5}),
    ("CronTask", "taskTypeRef", {"name": "made_by_code"}),
    ("CronTask", "schedule", "*/2 * * * * *"),
    ("CronTask", "payload", {"anything": {"goes": [1, None, True, 1.5, "x"]}}),
    ("CronTask", "tag", "nightly"),
    ("CronTask", "timeoutSeconds", 5),
    ("CronTask", "retry", {"maxAttempts": 2}),
    ("CronTask", "priority", 20),
    ("CronTask", "concurrencyPolicy", "Allow"),
    ("CronTask", "concurrencyPolicy", "Forbid"),
    ("CronTask", "missedRunPolicy", "Skip"),
    ("CronTask", "missedRunPolicy", "RunLatest"),
    ("CronTask", "suspend", True),
    ("CronTask", "pauseOnFailure", False),
    ("WorkerPool", "app", "app:app"),
    ("WorkerPool", "slots", 1),
    ("WorkerPool", "replicas", 0),
    ("WorkerPool", "drainSeconds", 0),
    ("WorkerPool", "env", [{"name": "LEVEL", "value": ""}]),
    ("WorkerPool", "image", "shop:1"),
    ("WorkerPool", "env", [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "key"}}}]),
    ("WorkerPool", "databaseSecretRef", {"name": "own", "key": "url"}),
    ("WorkerPool", "rollout", {"maxSurge": 1, "maxUnavailable": "25%"}),
    ("WorkerPool", "scaling", {"policy": "Backlog", "minReplicas": 2, "maxReplicas": 2}),
    ("WorkerPool", "scaling", {"policy": "External"}),
    ("WorkerPool", "labels", {"team": "shop"}),
    ("WorkerPool", "annotations", {"example.org/note": "any text"}),
    ("WorkerPool", "resources", {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": 1000000000}}),
    ("WorkerPool", "envFrom", [{"configMapRef": {"name": "shop"}, "prefix": "SHOP_"}]),
    ("WorkerPool", "serviceAccountName", "shop"),
    ("WorkerPool", "podSecurityContext", {"fsGroup": 2000, "runAsUser": 20001}),
    ("WorkerPool", "nodeSelector", {"disk": "fast"}),
    ("WorkerPool", "tolerations", [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]),
    ("WorkerPool", "affinity", {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}),
    (
        "WorkerPool",
        "topologySpreadConstraints",
        [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {}}}],
    ),
    ("WorkerPool", "volumes", [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}]),
    ("WorkerPool", "volumeMounts", [{"name": "cache", "mountPath": "/cache"}]),
    ("WorkerPool", "imagePullPolicy", "Never"),
    ("WorkerPool", "imagePullSecrets", [{"name": "registry"}]),
    ("WorkerPool", "priorityClassName", "high"),
]

REFUSED = [
    ("TaskType", "name", "", "spec.name"),
    ("TaskType", "name", "x" * 254, "spec.name"),
    ("TaskType", "description", 5, "spec.description"),
    ("TaskType", "timeoutSeconds", 0, "spec.timeoutSeconds"),
    ("TaskType", "timeoutSeconds", 1.5, "spec.timeoutSeconds"),
    ("TaskType", "timeoutSeconds", True, "spec.timeoutSeconds"),
    ("TaskType", "timeoutSeconds", "5s", "spec.timeoutSeconds"),
    ("TaskType", "timeoutSeconds", 31_536_001, "spec.timeoutSeconds"),
    ("TaskType", "retry", {"maxAttempts": 0}, "spec.retry.maxAttempts"),
    ("TaskType", "retry", {"backoffSeconds": -1}, "spec.retry.backoffSeconds"),
    ("TaskType", "retry", {"backoffFactor": 0}, "spec.retry.backoffFactor"),
    ("TaskType", "retry", {"maxBackoffSeconds": -1}, "spec.retry.maxBackoffSeconds"),
    ("TaskType", "retry", None, "spec.retry"),
    ("TaskType", "priority", 21, "spec.priority"),
    ("TaskType", "limits", {"perWorker": 0}, "spec.limits.perWorker"),
    ("TaskType", "suspend", "yes", "spec.suspend"),
    ("TaskType", "workerPoolRef", {}, "spec.workerPoolRef.name"),
    ("TaskType", "workerPoolRef", {"name": "nowhere"}, "spec.workerPoolRef.name"),
    ("TaskType", "worker", {}, "spec.worker.app"),
    ("TaskType", "worker", {"app": "a:b", "slots": 0}, "spec.worker.slots"),
    ("TaskType", "worker", {"app": "a:b", "env": [{"name": "FIBFLOW_POOL", "value": "x"}]}, "spec.worker.env[0].name"),
    ("TaskType", "deletionPolicy", "Delete", "spec.deletionPolicy"),
    ("TaskType", "retry", {"backoffSeconds": 5, "maxBackoffSeconds": 4}, "spec.retry.maxBackoffSeconds"),
    ("CronTask", "retry", {"backoffSeconds": 5, "maxBackoffSeconds": 4}, "spec.retry.maxBackoffSeconds"),
    ("CronTask", "taskTypeRef", {}, "spec.taskTypeRef.name"),
    ("CronTask", "schedule", "61 * * * *", "spec.schedule"),
    ("CronTask", "schedule", "0 0 30 2 *", "spec.schedule"),
    ("CronTask", "schedule", 5, "spec.schedule"),
    ("CronTask", "payload", [1], "spec.payload"),
    ("CronTask", "payload", {"a": float("nan")}, "spec.payload"),
    ("CronTask", "payload", {"a": "x" * (1 << 20)}, "spec.payload"),
    ("CronTask", "payload", {"a": ["\0"]}, "spec.payload.a[0]"),
    ("CronTask", "payload", {"\0": 1}, "spec.payload"),
    ("CronTask", "tag", "  ", "spec.tag"),
    ("CronTask", "tag", "x" * 254, "spec.tag"),
    ("CronTask", "tag", "a\0", "spec.tag"),
    ("CronTask", "taskTypeRef", {"name": " "}, "spec.taskTypeRef.name"),
    ("TaskType", "name", " ", "spec.name"),
    ("TaskType", "description", "\t", "spec.description"),
    ("TaskType", "description", "\ud800", "spec.description"),
    ("WorkerPool", "env", [{"name": "A", "value": "\0"}], "spec.env[0].value"),
    ("CronTask", "tag", "", "spec.tag"),
    ("CronTask", "timeoutSeconds", -1, "spec.timeoutSeconds"),
    ("CronTask", "retry", {"maxAttempts": -1}, "spec.retry.maxAttempts"),
    ("CronTask", "priority", -21, "spec.priority"),
    ("CronTask", "concurrencyPolicy", "Replace", "spec.concurrencyPolicy"),
    ("CronTask", "missedRunPolicy", "runLatest", "spec.missedRunPolicy"),
    ("CronTask", "suspend", 1, "spec.suspend"),
    ("CronTask", "pauseOnFailure", "no", "spec.pauseOnFailure"),
    ("WorkerPool", "app", "app", "spec.app"),
    ("WorkerPool", "app", "app:app; rm", "spec.app"),
    ("WorkerPool", "slots", 0, "spec.slots"),
    ("WorkerPool", "replicas", -1, "spec.replicas"),
    ("WorkerPool", "replicas", 1001, "spec.replicas"),
    ("WorkerPool", "drainSeconds", -1, "spec.drainSeconds"),
    ("WorkerPool", "env", [{"name": "FIBFLOW_POD_ID", "value": "x"}], "spec.env[0].name"),
    ("WorkerPool", "env", [{"name": "A", "value": "x"}, {"name": "A", "value": "y"}], "spec.env[1].name"),
    ("WorkerPool", "env", [{"name": "A=B", "value": "x"}], "spec.env[0].name"),
    ("WorkerPool", "env", [{"name": "A"}], "spec.env[0].value"),
    ("WorkerPool", "env", [{"name": "A", "value": 1}], "spec.env[0].value"),
    ("WorkerPool", "image", "", "spec.image"),
    ("WorkerPool", "env", [{"name": "A", "value": "x", "valueFrom": {}}], "spec.env[0].value"),
    ("WorkerPool", "databaseSecretRef", {"name": ""}, "spec.databaseSecretRef.name"),
    ("WorkerPool", "rollout", {"maxSurge": True}, "spec.rollout.maxSurge"),
    ("WorkerPool", "scaling", {"policy": "backlog"}, "spec.scaling.policy"),
    ("WorkerPool", "scaling", {"maxReplicas": 0}, "spec.scaling.maxReplicas"),
    ("WorkerPool", "labels", {"team": 5}, "spec.labels.team"),
    ("WorkerPool", "annotations", {"note": 5}, "spec.annotations.note"),
    ("WorkerPool", "resources", {"limits": {"memory": []}}, "spec.resources.limits.memory"),
    ("WorkerPool", "envFrom", [{"prefix": 1}], "spec.envFrom[0].prefix"),
    ("WorkerPool", "serviceAccountName", 1, "spec.serviceAccountName"),
    ("WorkerPool", "podSecurityContext", {"fsGroup": "x"}, "spec.podSecurityContext.fsGroup"),
    ("WorkerPool", "nodeSelector", {"disk": 1}, "spec.nodeSelector.disk"),
    ("WorkerPool", "tolerations", [{"tolerationSeconds": "5"}], "spec.tolerations[0].tolerationSeconds"),
    ("WorkerPool", "affinity", [], "spec.affinity"),
    ("WorkerPool", "topologySpreadConstraints", [{"maxSkew": 1}], "spec.topologySpreadConstraints[0].topologyKey"),
    ("WorkerPool", "volumes", [{"emptyDir": {}}], "spec.volumes[0].name"),
    ("WorkerPool", "volumeMounts", [{"name": "cache"}], "spec.volumeMounts[0].mountPath"),
    ("WorkerPool", "imagePullPolicy", "Sometimes", "spec.imagePullPolicy"),
    ("WorkerPool", "imagePullSecrets", [{}], "spec.imagePullSecrets[0].name"),
    ("WorkerPool", "priorityClassName", [], "spec.priorityClassName"),
]


def resource(kind, **spec):
    return {
        "apiVersion": "fibflow.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "it"},
        "spec": {**MINIMAL[kind], **spec},
    }


@pytest.fixture
def write(tmp_path):
    def written(*documents, name="it.yaml"):
        texts = [text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False) for text in documents]
        file = tmp_path / name
        file.write_text("---\n".join(texts))
        return file

    return written


def refusal(file, **options):
    with pytest.raises(InvalidManifest) as caught:
        read(file, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", MINIMAL)
def test_what_is_not_required_may_be_left_out(kind, write):
    found = read(write(resource(kind)))
    assert len(found.task_types + found.cron_tasks + found.worker_pools) == 1


@pytest.mark.parametrize(("kind", "field", "value"), ACCEPTED)
def test_a_field_takes_what_its_schema_says(kind, field, value, write):
    read(write(resource(kind, **{field: value}), POOL))


@pytest.mark.parametrize(("kind", "field", "value", "path"), REFUSED)
def test_a_field_refuses_what_its_schema_does_not_say(kind, field, value, path, write):
    message = refusal(write(resource(kind, **{field: value})))
    assert "it.yaml, line " in message
    assert f": {path}: " in message


def test_every_field_of_every_schema_is_tried_both_ways():
    for kind, schema in schemas._schemas().items():
        fields = set(schema["properties"]["spec"]["properties"])
        assert {field for tried, field, _ in ACCEPTED if tried == kind} == fields
        assert {field for tried, field, _, _ in REFUSED if tried == kind} == fields


@pytest.mark.parametrize(("kind", "field"), [("CronTask", "taskTypeRef"), ("CronTask", "schedule"), ("WorkerPool", "app")])
def test_a_required_field_is_missed(kind, field, write):
    broken = resource(kind)
    del broken["spec"][field]
    assert f"spec.{field}: None is missing; give it a value (" in refusal(write(broken))


def test_a_value_of_another_kind_or_form_is_told_what_the_field_is(write):
    said = "(The application as module:attribute, such as shop.tasks:app)"
    for wrong, fault in ((5, "is not of type string "), ("shop", "does not match ^")):
        message = refusal(write(resource("WorkerPool", app=wrong)))
        assert f"spec.app: {wrong!r} {fault}" in message
        assert message.endswith(said)


def test_values_are_what_the_file_says(write):
    retry = {"maxAttempts": 5.0, "backoffSeconds": 1, "backoffFactor": 2, "maxBackoffSeconds": 9}
    options = {"timeoutSeconds": 7, "retry": retry, "priority": 3}
    kind = resource("TaskType", name="resize", limits={"perWorker": 4}, suspend=True, **options)
    found = read(write(kind, resource("CronTask", taskTypeRef={"name": "it"}), POOL))
    assert found.task_types[0].options == Options(7, 5, 1, 2, 9, 3)
    assert (found.task_types[0].type, found.task_types[0].per_worker, found.task_types[0].suspended) == (
        "resize",
        4,
        True,
    )
    assert found.type_of(found.cron_tasks[0]) == "resize"


def test_a_type_with_workers_of_its_own_is_in_no_pool(write):
    own = {"app": "shop.tasks:app", "replicas": 2}
    (kind,) = read(write(resource("TaskType", name="resize", worker=own))).task_types
    assert kind.workers is not None and (kind.pool, kind.workers.name) == ("TaskType.it", "TaskType.it")
    assert (kind.workers.app, kind.workers.replicas, kind.workers.type) == ("shop.tasks:app", 2, "resize")
    both = resource("TaskType", worker=own, workerPoolRef={"name": "pool"})
    assert "spec.worker: " in refusal(write(both, POOL)) and "keep one of them" in refusal(write(both, POOL))


def test_defaults_are_those_of_the_schemas(write):
    found = read(write(resource("CronTask"), POOL))
    cron, pool = found.cron_tasks[0], found.worker_pools[0]
    specs = {kind: schema["properties"]["spec"]["properties"] for kind, schema in schemas._schemas().items()}
    defaults = {
        "concurrencyPolicy": cron.concurrency_policy,
        "missedRunPolicy": cron.missed_run_policy,
        "suspend": cron.suspended,
        "pauseOnFailure": cron.pause_on_failure,
    }
    for name, value in defaults.items():
        assert specs["CronTask"][name]["default"] == value
    for name, value in {"slots": pool.slots, "replicas": pool.replicas, "drainSeconds": pool.drain}.items():
        assert specs["WorkerPool"][name]["default"] == value
    assert {str(policy) for policy in ConcurrencyPolicy} == set(specs["CronTask"]["concurrencyPolicy"]["enum"])
    assert {str(policy) for policy in MissedRunPolicy} == set(specs["CronTask"]["missedRunPolicy"]["enum"])


def test_an_unknown_key_names_what_it_may_have_meant(write):
    message = refusal(write(resource("TaskType", timeoutSecond=5)))
    assert "spec.timeoutSecond" in message
    assert "did you mean timeoutSeconds?" in message


def test_an_unknown_key_far_from_all_names_those_that_are_known(write):
    assert "known are backoffFactor, backoffSeconds" in refusal(write(resource("TaskType", retry={"zzz": 1})))


def test_the_status_is_not_written_by_people(write):
    assert "status: 'status' is not a known key" in refusal(write({**resource("TaskType"), "status": {}}))


def test_the_line_is_that_of_the_fault(write):
    text = yaml.safe_dump(POOL, sort_keys=False)
    file = write(text, "apiVersion: fibflow.dev/v1alpha1\nkind: TaskType\nmetadata: {name: a}\nspec:\n  priority: 99\n")
    assert f"line {len(text.splitlines()) + 6}: spec.priority: 99 is more than 20" in refusal(file)


@pytest.mark.parametrize(
    ("key", "value"),
    [("apiVersion", "v1"), ("apiVersion", None), ("kind", "Deployment"), ("kind", ["TaskType"]), ("kind", None)],
)
def test_a_wrong_kind_is_refused(key, value, write):
    assert f": {key}: " in refusal(write({**resource("TaskType"), key: value}))


@pytest.mark.parametrize("name", ["", "A", "a_b", "x" * 43, "-a", "a\n", 5])
def test_a_name_is_one_that_a_cluster_takes(name, write):
    assert "metadata.name" in refusal(write({**resource("TaskType"), "metadata": {"name": name}}))


def test_labels_and_annotations_are_taken(write):
    read(write({**resource("TaskType"), "metadata": {"name": "a", "labels": {"x/y": "z"}, "annotations": {"n": ""}}}))


def test_another_namespace_is_refused(write):
    file = write({**resource("TaskType"), "metadata": {"name": "a", "namespace": "other"}})
    assert "--namespace" in refusal(file)
    read(file, namespace="other")


def test_a_name_stands_once_for_a_kind(write):
    assert "names a TaskType already" in refusal(write(resource("TaskType"), resource("TaskType", name="x")))
    read(write(resource("TaskType"), resource("CronTask")))


def test_two_task_types_do_not_share_the_name_in_the_code(write):
    other = {**resource("TaskType", name="it"), "metadata": {"name": "other"}}
    assert "names a task type already" in refusal(write(resource("TaskType"), other))


BROKEN = {
    "an open bracket": ("a: [1\nb: 2\n", "line 2, column 2: 'b: 2' is not YAML: expected ',' or ']'"),
    "a bracket open to the end": ("a: [1, 2\n", "line 1, column 4: 'a: [1, 2' is not YAML: expected ',' or ']'"),
    "a quote open to the end": ("b: 1\na: 'x\n", 'line 2, column 4: "a: \'x" is not YAML: found unexpected end'),
    "a key without a value": ("{{{{\n", "line 2, column 1: 'the end of the file' is not YAML"),
    "an indentation": ("a: 1\n  b: 2\n", "line 2, column 4: '  b: 2' is not YAML: mapping values are not allowed here; mend"),
    "a tab": ("a:\n\t- b\n", "line 2, column 1: '\\t- b' is not YAML"),
    "a line that is long": ("a: " + "x" * 200 + ": y\n", "line 1, column 204: 'xxxxx"),
    "an unknown anchor": ("a: *b\n", "line 1, column 4: 'a: *b' is not YAML: found undefined alias 'b'"),
    "a control character": ("a: b\nc: \x01\n", "line 2, column 4: 'c: \\x01' holds the character U+0001; remove it"),
    "a key twice": ("a: 1\na: 2\n", "line 2, column 1: 'a: 2' has the key 'a' for the second time; keep one"),
    "a key that is a number": ("1: 2\n", "line 1, column 1: '1: 2' has a key that is not text; put it in quotes"),
    "a key that is a list": ("? [a]\n: 2\n", "line 1, column 3: '? [a]' has a key that is not text"),
    "itself": ("a: &b [*b]\n", "line 1, column 4: 'a: &b [*b]' contains itself by an alias; write it out"),
    "too deep": ("a: " + "[" * 65 + "]" * 65 + "\n", "line 1, column 4: 'a: [[[["),
    "far too deep": ("a: " + "[" * 9000 + "]" * 9000 + "\n", "is nested deeper than 64 levels; make it flatter"),
    "a tag that does not fit": ("a: !!int x\n", "line 1, column 1: 'a: !!int x' holds a value that does not fit its tag"),
    "an empty number": ("a: !!int ''\n", "line 1, column 1: \"a: !!int ''\" holds a value that does not fit its tag"),
    "a date by its tag": ("a: !!timestamp x\n", "line 1, column 4: 'a: !!timestamp x' has the tag tag:yaml.org,2002:timestamp"),
    "a set": ("a: !!set {b, c}\n", "line 1, column 4: 'a: !!set {b, c}' has the tag tag:yaml.org,2002:set"),
    "too much by aliases": (
        "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
        "holds more than 200000 values; split it",
    ),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_yaml_is_told_with_its_file_and_line_and_what_stands_there(text, said, write):
    message = refusal(write(text))
    assert "it.yaml, line " in message
    assert said in message


def test_a_tag_is_not_obeyed(write, tmp_path):
    mark = tmp_path / "mark"
    message = refusal(write(f"a: !!python/object/apply:pathlib.Path.touch [{mark}]\n"))
    assert "not obeyed" in message
    assert not mark.exists()


def test_a_date_is_text(write):
    text = yaml.safe_dump(resource("CronTask")) + "  payload: {day: 2026-01-01}\n"
    assert read(write(text)).cron_tasks[0].payload == {"day": "2026-01-01"}


def test_anchors_and_merges_are_taken(write):
    text = yaml.safe_dump(resource("CronTask"), sort_keys=False) + "  payload: {a: &a {x: 1}, b: {<<: *a, y: 2}}\n"
    assert read(write(text)).cron_tasks[0].payload["b"] == {"x": 1, "y": 2}


def test_bytes_that_are_not_utf_8_are_refused(tmp_path):
    (tmp_path / "it.yaml").write_bytes(b"a: b\nc: \xff\n")
    assert "it.yaml, line 2, column 4: 'c: \ufffd' is not UTF-8; save the file as UTF-8" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing\n"])
def test_a_file_without_a_resource_is_refused(text, write):
    assert "hold no resource" in refusal(write(text))


@pytest.mark.parametrize("text", ["5\n", "[]\n", "text\n"])
def test_what_is_not_an_object_is_refused(text, write):
    assert "is not a resource" in refusal(write(text))


def test_a_folder_is_read_with_the_folders_in_it(write, tmp_path):
    write(POOL, name="b.yml")
    (tmp_path / "deep").mkdir()
    write(resource("TaskType"), name="deep/a.yaml")
    (tmp_path / "notes.txt").write_text("{")
    found = read(tmp_path)
    assert (len(found.task_types), len(found.worker_pools), found.folder) == (1, 1, tmp_path)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "holds no .yaml" in refusal(tmp_path)


def test_a_folder_that_changes_under_the_reader_or_is_barred_is_refused(tmp_path, monkeypatch):
    def barred(*_):
        raise PermissionError(13, "Permission denied", "/secret")

    monkeypatch.setattr(Path, "rglob", barred)
    assert "file: '/secret' cannot be read: Permission denied; name another" in refusal(tmp_path)


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    def barred(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", barred)
    monkeypatch.setattr(Path, "rglob", lambda *_: iter(()))
    assert f"file: '{tmp_path}' cannot be read: Permission denied" in refusal(tmp_path)


def test_a_name_that_is_too_long_is_refused_in_a_line(tmp_path):
    said = refusal(tmp_path / ("a" * 3000))
    assert said.endswith("... cannot be read: File name too long; name another") and len(said) < 160


# ── the schemas themselves ────────────────────────────────────────────────────────────────────────────────────────


def parts(schema, path=""):
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{path}[]")


ALL = [(kind, path, part) for kind, schema in schemas._schemas().items() for path, part in parts(schema)]


@pytest.mark.parametrize(("kind", "path", "part"), ALL, ids=[f"{kind}{path}" for kind, path, _ in ALL])
def test_a_schema_is_described_and_bounded(kind, path, part):
    # The API server allows no description on metadata itself.
    assert path == ".metadata" or part["description"].endswith(".")
    bounds = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",), "integer": ("minimum",)}
    wanted = bounds.get(part.get("type", "number or string"), ())
    assert not wanted or any(bound in part for bound in wanted)


@pytest.mark.parametrize("file", sorted(schemas.folder().glob("*.yaml")), ids=lambda file: file.stem)
def test_a_definition_is_small_and_belongs_to_the_group(file: Path):
    definition = yaml.safe_load(file.read_text())
    spec = definition["spec"]
    assert definition["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert spec["names"]["categories"] == ["fibflow"]
    assert "status" in spec["versions"][0]["subresources"]
    assert file.stat().st_size < 200 << 10


def test_the_manifests_of_the_page_on_workers_are_right(write):
    page = (Path(__file__).parents[2] / "docs" / "workers.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    found = read(write(*blocks))
    assert [each.pool for each in found.task_types] == ["shop", "TaskType.resize"]
