"""The README's walk on a cluster, command by command, from its own text.

Helm and kubectl are the cluster's; where the text names images and a volume, those that this cluster has stand in.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import time

import pytest

from cluster.waiting import until
from e2e import releases
from e2e.figures import record
from e2e.releases import CHART, ROOT

NAMESPACE = "tasks"
HELM = """#!/bin/sh
case "$1" in
    install) exec {helm} "$@" --values {values} --take-ownership ;;
    *) exec {helm} "$@" ;;
esac
"""


def commands() -> list[str]:
    """The commands of the block that installs the chart."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (walk,) = [block for block in blocks if "helm install" in block]
    return walk.strip().splitlines()


@pytest.fixture
def walk(own_cluster, tmp_path):
    """Runs a command as a reader of the README would, in a copy of what it names."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "charts").symlink_to(CHART.parent)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    pool = tmp_path / "examples" / "stdlib" / "manifests" / "workerpool.yaml"
    image = own_cluster.give(releases.example())
    pool.write_text(pool.read_text().replace("fibflow-example-stdlib:latest", f"{image}\n  imagePullPolicy: Never"))
    values = tmp_path / "values.json"
    values.write_text(json.dumps(_values(own_cluster)))
    script = tmp_path / "bin" / "helm"
    script.write_text(HELM.format(helm=own_cluster.commands / "helm", values=values))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    path = f"{tmp_path / 'bin'}:{own_cluster.commands}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "KUBECONFIG": str(own_cluster.kubeconfig)}

    def run(command: str) -> str:
        done = subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    yield run
    run(f"helm uninstall fibflow --namespace {NAMESPACE} --wait")
    own_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _values(cluster):
    def given(image):
        repository, _, tag = cluster.give(image).rpartition(":")
        return {"repository": repository, "tag": tag, "pullPolicy": "Never"}

    database = {"image": given(releases.postgresql()), "persistence": {"enabled": False}}
    return {"image": given(releases.operator()), "postgresql": database}


def test_the_walk_on_a_cluster_works_as_it_is_written(walk):
    begin = time.monotonic()
    first, *rest = commands()
    install = walk(first)
    assert record("H1 built-in", "helm install --wait with the built-in database", [time.monotonic() - begin], 60)
    *said, show, resume = rest
    tested, _, ready, enqueued, listed = map(walk, said)
    assert "the built-in PostgreSQL is for trying things out" in install
    assert "Phase:          Succeeded" in tested
    assert ready.count("condition met") == 6
    assert int(enqueued) > 0
    assert {"tasktype.fibflow.dev/index-stdlib", "crontask.fibflow.dev/every-two-seconds"} <= set(listed.split())

    def of_the_task(command):
        return walk(command.replace(" ID ", f" {int(enqueued)} "))

    until(lambda: "awaiting_approval" in of_the_task(show), 60, "the workflow awaits approval")
    of_the_task(resume)
    until(lambda: "completed" in of_the_task(show), 60, "the workflow has completed")
    lines = walk(f"kubectl logs --namespace {NAMESPACE} --selector app.kubernetes.io/component=operator --tail -1").splitlines()
    assert {"leading", "lead_taken"} <= {json.loads(line)["event"] for line in lines}, "one of the two leads, and tells in JSON"
