"""What resource files say, as a real worker obeys it."""

import asyncio
import time

import pytest

from fibflow import App, Client, Status, resources
from fibflow_worker.runtime import Settings, Worker

TASK_TYPE = """
apiVersion: fibflow.dev/v1alpha1
kind: TaskType
metadata: {name: counted}
spec: {limits: {perWorker: 1}}
"""


@pytest.mark.xfail(strict=True, reason="a lane's room comes from the code's declaration, not from the effective task type")
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
