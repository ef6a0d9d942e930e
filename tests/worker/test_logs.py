"""What a worker process writes to stderr in a pod: a JSON object a line, of whatever logger and process it comes."""

import json
import signal
import subprocess
import sys

from fibflow import Client, Status
from fix_semantics import until

APP = """
import logging
from fibflow import App

app, log = App(), logging.getLogger("shop")

@app.task("inside")
async def inside(ctx):
    log.info("said %s", "inside")

@app.task("apart", run_in="process")
def apart(ctx):
    log.info("said %s", "apart")
"""


def test_what_an_applications_loggers_say_is_written_as_our_own_lines_are_also_by_handlers_in_processes(database_url, tmp_path):
    (tmp_path / "shop.py").write_text(APP)
    command = [sys.executable, "-m", "fibflow_worker", "shop:app", "--database", database_url, "--poll-interval", "0.1"]
    with (tmp_path / "log").open("wb") as log, Client(database_url) as client:
        worker = subprocess.Popen(command, cwd=tmp_path, stderr=log)
        try:
            until(lambda: {"inside", "apart"} <= {each.name for each in client.types()})
            tasks = [client.enqueue("inside"), client.enqueue("apart")]
            until(lambda: all(client.get(each).status is Status.COMPLETED for each in tasks))
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ours, theirs = ({line["event"] for line in lines if (line["logger"] == "shop") is whose} for whose in (False, True))
    assert "worker_registered" in ours
    assert theirs == {"said inside", "said apart"}
    assert all({"level", "timestamp"} <= line.keys() for line in lines)
