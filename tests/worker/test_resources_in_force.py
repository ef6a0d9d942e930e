"""What resource files say, as a real worker obeys it."""

import asyncio
import subprocess
import sys
import time

import pytest

from fibflow import App, Client, Status, resources
from fibflow.dev import Watch
from fibflow.errors import InvalidInput
from fibflow.store.installation import take_lead
from fibflow.store.migrate import migrate
from fibflow.store.tasktypes import Declaration, declare_types
from fibflow_worker.runtime import Settings, Worker
from fix_semantics import until

HEAD = "apiVersion: fibflow.dev/v1alpha1\nkind: {}\nmetadata: {{name: {}}}\nspec: {}\n"
POOL = HEAD.format("WorkerPool", "pool", "{app: 'shop:app', image: 'shop:1'}")
CRON = HEAD.format("CronTask", "nightly", "{taskTypeRef: {name: sweep}, schedule: '@daily'}")
TYPE = HEAD.format("TaskType", "kept", "{suspend: true}")
TASK_TYPE = """
apiVersion: fibflow.dev/v1alpha1
kind: TaskType
metadata: {name: counted}
spec: {limits: {perWorker: 1}}
"""


def test_a_task_types_limit_for_each_worker_holds_where_the_code_sets_none(database, tmp_path):
    (tmp_path / "it.yaml").write_text(TASK_TYPE)
    resources.apply(database, resources.read(tmp_path))
    app, client, running, peaks = App(), Client(database), set(), []

    @app.task("counted")
    async def counted(ctx):
        running.add(ctx.id)
        for _ in range(20):
            await asyncio.sleep(0)
        peaks.append(len(running))
        running.remove(ctx.id)

    ids = [client.enqueue("counted") for _ in range(6)]

    async def story():
        worker = Worker(app, database, Settings(slots=8, poll_interval=0.05))
        running = asyncio.create_task(worker.run())
        deadline = time.monotonic() + 20
        while any(client.get(task_id).status is not Status.COMPLETED for task_id in ids) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        worker.stop()
        await running
        await database.aclose()

    asyncio.run(story())
    assert len(peaks) == len(ids)
    assert max(peaks) == 1


def test_dev_tells_what_of_the_manifests_has_no_effect_and_what_waits(database, tmp_path):
    file = tmp_path / "it.yaml"
    said: list[str] = []
    file.write_text("---\n".join((POOL, CRON, TYPE)))
    watch = Watch(tmp_path, database, resources.read(tmp_path), said.append)
    watch.start()
    assert said == [
        "applied 1 task types, 0 cron tasks, 1 worker pools",
        "cron task nightly waits: no TaskType here and no worker has declared its type sweep yet",
        "worker pool pool: its image shop:1 is not used here, a replica is a process",
        "task type kept: bound to no pool: all workers here run it, on a cluster no pool's workers do; a TaskType binds it by"
        " its workerPoolRef",
    ]
    said.clear()
    watch.look()
    assert said == [], "it is told once"
    database.call(declare_types, [Declaration("sweep")])
    watch.look()
    assert said == ["in force now: nightly"]
    assert [cron.name for cron in Client(database).crons()] == ["nightly"]
    said.clear()
    file.write_text(CRON)
    watch.look()
    assert said == [
        "applied 0 task types, 1 cron tasks, 0 worker pools",
        "task type kept: no file declares it any more; what its TaskType said stays in force",
    ]


def test_a_manifest_that_is_wrong_leaves_the_last_good_one_in_force(database, tmp_path):
    file = tmp_path / "it.yaml"
    said: list[str] = []
    file.write_text(TYPE)
    watch = Watch(tmp_path, database, resources.read(tmp_path), said.append)
    watch.start()
    said.clear()
    file.write_text(TYPE + "---\n" + TYPE.replace("kept", "other").replace("true", "perhaps"))
    watch.look()
    watch.look()
    (complaint,) = said
    assert "the last good manifests stay in force" in complaint
    assert "spec.suspend: 'perhaps' is not of type boolean" in complaint
    assert [kind.name for kind in Client(database).types()] == ["kept"]


HANGING = """
import asyncio
from fibflow import App
app = App()

@app.task("hang", timeout=600)
async def hang(ctx):
    await asyncio.Event().wait()
"""


def test_a_pool_that_is_stopped_gives_back_what_does_not_end_within_its_drain(database_url, tmp_path):
    (tmp_path / "hanging.py").write_text(HANGING)
    (tmp_path / "it.yaml").write_text(HEAD.format("WorkerPool", "pool", "{app: 'hanging:app', drainSeconds: 0}"))
    command = [sys.executable, "-m", "fibflow", "dev", "-f", "it.yaml", "--database", database_url]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as dev, Client(database_url) as client:
        try:
            until(lambda: [kind.name for kind in client.types()] == ["hang"], 60)
            task_id = client.enqueue("hang")
            until(lambda: client.get(task_id).status is Status.RUNNING)
            dev.terminate()
            _, told = dev.communicate(timeout=30)
        finally:
            dev.kill()
        task = client.get(task_id)
    assert (dev.returncode, task.status, task.last_outcome, task.interruptions) == (0, Status.PENDING, "interrupted", 0)
    assert "exit code 0" in told


POOLS = """
from fibflow import App
app = App()

for name in ("a", "b", "own", "free", "code"):
    app.add(name, lambda ctx: None)
"""
BOUND = [
    HEAD.format("WorkerPool", "one", "{app: 'pools:app'}"),
    HEAD.format("WorkerPool", "other", "{app: 'pools:app'}"),
    HEAD.format("TaskType", "a", "{workerPoolRef: {name: one}}"),
    HEAD.format("TaskType", "b", "{workerPoolRef: {name: other}}"),
    HEAD.format("TaskType", "own", "{worker: {app: 'pools:app'}}"),
    HEAD.format("TaskType", "free", "{description: bound to none}"),
]


def test_dev_has_a_type_run_by_the_workers_of_its_pool_and_by_no_others(tmp_path):
    (tmp_path / "pools.py").write_text(POOLS)
    (tmp_path / "it.yaml").write_text("---\n".join(BOUND))
    url = f"sqlite:///{tmp_path}/it.db"
    migrate(url)
    command = [sys.executable, "-m", "fibflow", "dev", "-f", "it.yaml", "--database", url]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as dev, Client(url) as client:
        try:
            until(lambda: {"one-0", "other-0", "TaskType.own-0"} == {worker.pod_id for worker in client.workers()}, 60)
            ids = {name: [client.enqueue(name) for _ in range(5)] for name in ("a", "b", "own", "free", "code")}
            until(lambda: client.tasks(status=Status.COMPLETED).total == 25, 60)
        finally:
            dev.terminate()
        ran = {name: {client.attempts(task_id).items[0].pod_id for task_id in ids[name]} for name in ids}
        code_pool = client.type("code").pool
    assert (ran["a"], ran["b"], ran["own"]) == ({"one-0"}, {"other-0"}, {"TaskType.own-0"})
    assert ran["free"] <= {"one-0", "other-0"}, "what is bound to none is for any pool's workers"
    assert code_pool in ("one", "other") and ran["code"] == {f"{code_pool}-0"}


def test_dev_tells_of_a_type_that_is_bound_to_a_pool_that_is_not_there(database, tmp_path):
    said: list[str] = []
    (tmp_path / "it.yaml").write_text(POOL)
    database.call(declare_types, [Declaration("left")], pool="gone")
    database.call(declare_types, [Declaration("taken")], pool="pool")
    Watch(tmp_path, database, resources.read(tmp_path), said.append).start()
    assert [told for told in said if told.startswith("task type")] == [
        "task type left: bound to pool gone, so no worker here runs it; a TaskType binds it by its workerPoolRef"
    ]


def test_dev_tells_which_cron_tasks_go_because_no_file_declares_them(database, tmp_path):
    file = tmp_path / "it.yaml"
    said: list[str] = []
    file.write_text(TYPE + "---\n" + CRON.replace("sweep", "kept"))
    watch = Watch(tmp_path, database, resources.read(tmp_path), said.append)
    watch.start()
    file.write_text(TYPE)
    watch.look()
    assert said[-1] == "cron task nightly: deleted with its ticks, no file declares it any more; its tasks stay"
    assert Client(database).crons() == []


def test_dev_leaves_a_database_alone_that_an_operator_serves(database, tmp_path):
    (tmp_path / "it.yaml").write_text(TYPE)
    database.call(take_lead, "fibflow/fibflow", "operator-0", 0)
    with pytest.raises(InvalidInput, match="serves the operator of installation fibflow/fibflow; use kubectl, or another"):
        resources.apply(database, resources.read(tmp_path))
    assert Client(database).types() == []


CROPPING = """
import os
from fibflow import App
app = App()
app.add("crop", lambda ctx, width: [width, os.environ["PLACE"]])
app.add("other", lambda ctx: None)
"""
OWN = "{worker: {app: 'cropping:app', replicas: 2, env: [{name: PLACE, value: here}]}}"


def test_a_type_with_workers_of_its_own_gets_processes_that_complete_its_tasks_and_no_others(tmp_path):
    database_url = f"sqlite:///{tmp_path}/it.db"
    (tmp_path / "cropping.py").write_text(CROPPING)
    (tmp_path / "it.yaml").write_text(HEAD.format("TaskType", "crop", OWN))
    command = [sys.executable, "-m", "fibflow", "dev", "-f", "it.yaml", "--database", database_url]
    migrate(database_url)
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as dev, Client(database_url) as client:
        try:
            until(lambda: len(client.workers()) == 2, 60)
            client.declare_types([Declaration("other")])
            other, task_id = client.enqueue("other"), client.enqueue("crop", {"width": 3})
            until(lambda: client.get(task_id).status is Status.COMPLETED)
            pods = {worker.id: worker.pod_id for worker in client.workers()}
            dev.terminate()
            _, told = dev.communicate(timeout=30)
        finally:
            dev.kill()
        assert client.get(task_id).result == [3, "here"]
        assert client.get(other).status is Status.PENDING, "its application has the handler, and it is not theirs to run"
        (attempt,) = client.attempts(task_id).items
    assert sorted(map(str, pods.values())) == ["TaskType.crop-0", "TaskType.crop-1"]
    assert attempt.worker_id in pods
    assert "TaskType.crop-0 started" in told and "TaskType.crop-1 started" in told and dev.returncode == 0


def test_dev_tells_of_a_type_whose_pool_has_no_replica(database, tmp_path):
    said: list[str] = []
    idle = HEAD.format("WorkerPool", "idle", "{app: 'shop:app', replicas: 0}")
    (tmp_path / "it.yaml").write_text("---\n".join((idle, HEAD.format("TaskType", "held", "{workerPoolRef: {name: idle}}"))))
    Watch(tmp_path, database, resources.read(tmp_path), said.append).start()
    assert said[-1].startswith("task type held: bound to pool idle, so no worker here runs it")
