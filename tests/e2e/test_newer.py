"""Resources of a newer version than the operator's: it says so of them, and goes on with the others, also after a start."""

import json

import pytest

from cluster import until
from e2e.planes import cron_task, resource, task_type
from e2e.test_sync import HOSTILE

KINDS = ("TaskType", "CronTask", "WorkerPool")
SPEC = "/spec/versions/0/schema/openAPIV3Schema/properties/spec"
NOVELTY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
ADDED = {f"{SPEC}/x-kubernetes-preserve-unknown-fields": True, f"{SPEC}/properties/novelty": NOVELTY}
"""What a newer version of the definitions has besides."""
CRON_ROW = "SELECT schedule FROM fibflow.cron_task WHERE name = %s"


@pytest.fixture
def newer(plane):
    """A control plane whose definitions are of a newer version."""
    _patch(plane, [{"op": "add", "path": path, "value": value} for path, value in ADDED.items()])
    yield plane
    _patch(plane, [{"op": "remove", "path": path} for path in ADDED])


def _patch(plane, changes):
    for kind in KINDS:
        name = f"{kind.lower()}s.fibflow.dev"
        plane.cluster.kubectl("patch", "crd", name, "--type=json", "--patch", json.dumps(changes))


def put(plane, kind, name, **spec):
    """Apply it until the API server keeps what is new: a definition is served a moment after it is stored."""

    def kept():
        plane.apply(resource(kind, name, novelty={"a": [1]}, anything=5, **spec))
        return plane.get(kind, name)["spec"].get("anything") == 5

    until(kept, 20, f"{kind} {name} has what is new")


NEW = (("CronTask", "grown"), ("TaskType", "new"), ("WorkerPool", "new"))


def test_what_is_newer_than_the_operator_is_told_and_stops_nobody_also_after_a_start(newer):
    first = newer.start()
    newer.apply(task_type("work"), cron_task("grown"))
    newer.wait_condition("CronTask", "grown", status="True", seconds=30)
    put(newer, "CronTask", "grown", taskTypeRef={"name": "work"}, schedule="0 4 * * *")
    put(newer, "TaskType", "new")
    put(newer, "WorkerPool", "new", app="a:b")
    for number, text in enumerate(HOSTILE):
        newer.create("TaskType", task_type(f"hostile-{number}", name=text, description=text))
    others_go_on(newer, "before")
    first.end()
    newer.sql("DELETE FROM fibflow.task_type WHERE name <> 'work'")
    for kind, name in NEW:
        nothing = ("--subresource=status", "--type=merge", "--patch", '{"status": {"conditions": []}}')
        newer.cluster.kubectl("patch", "--namespace", newer.namespace, kind.lower(), name, *nothing)
    again = newer.start()
    others_go_on(newer, "after")
    assert again.running


def others_go_on(plane, name):
    """What is new is refused with a word, what is not is in force, hostile as it may be."""
    for kind, new in NEW:
        said = plane.wait_condition(kind, new, status="False", reason="UnknownField", seconds=30)
        assert "is not a known key" in said["message"]
    assert plane.sql(CRON_ROW, "grown") == [("0 3 * * *",)]  # the last good one
    plane.wait_sql(len(HOSTILE), "SELECT count(*) FROM fibflow.task_type WHERE resource LIKE 'hostile-%%'")
    plane.apply(cron_task(name))
    plane.wait_condition("CronTask", name, status="True")
