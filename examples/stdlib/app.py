"""The example application: a workflow that indexes the standard library, and a cron task that ticks beside it.

Handlers only: how to count is in inventory.py, how often to try and when to tick is in manifests/, and what a worker
does with all of it is no concern of this file. `fibflow dev -f manifests` runs it on a laptop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fibflow import App, Child, Context, PermanentError, Status, child
from inventory import Counts, Report, count_package, merge, packages, standard_library

app = App()

COUNTS = TypeAdapter(Counts)
REPORT = TypeAdapter(Report)


@app.task("index_stdlib")
def index_stdlib(ctx: Context, report_path: str, fail_once: str = "", hang_once: str = "") -> Any:
    """Index the standard library in three stages: one child a package, a person's approval, the report as a file.

    `fail_once` and `hang_once` name a package whose first attempt raises, or sleeps past its timeout.
    """
    match ctx.stage:
        case 0:
            return _spawn_one_child_a_package(ctx, fail_once, hang_once)
        case 1:
            return _ask_for_approval(ctx)
        case _:
            return _write_report(ctx, Path(report_path))


@app.task("parse_module", run_in="process")
def parse_module(ctx: Context, name: str, root: str, files: list[str], trouble: str = "") -> Any:
    """Count one package. In a process: parsing is pure CPU, and a process can be killed at its timeout."""
    if trouble and ctx.failures == 0:
        _make(trouble)
    return COUNTS.dump_python(count_package(name, Path(root), files), mode="json")


# The same handler under a second name, whose TaskType has less patience.
app.add("parse_module_in_a_second", parse_module, run_in="process", timeout=1)


@app.task("tick")
async def tick(ctx: Context) -> Any:
    """What the cron task enqueues every two seconds."""
    return {"task": ctx.id}


def _spawn_one_child_a_package(ctx: Context, fail_once: str, hang_once: str) -> Any:
    root = standard_library()
    children = []
    for name, files in packages(root).items():
        type_name = "parse_module_in_a_second" if name == hang_once else "parse_module"
        trouble = {fail_once: "fail", hang_once: "hang"}.get(name, "")
        payload = {"name": name, "root": str(root), "files": files, "trouble": trouble}
        children.append(child(type_name, payload, tag=name))
    return ctx.spawn(children)


def _ask_for_approval(ctx: Context) -> Any:
    report = merge([COUNTS.validate_python(counted.result) for counted in _all_completed(ctx.children)])
    return ctx.suspend(
        reason="awaiting_approval",
        context=REPORT.dump_json(report),
        metadata={"modules": report.modules, "lines": report.lines},
    )


def _write_report(ctx: Context, path: Path) -> Any:
    report = REPORT.validate_json(ctx.context or b"")
    # Written beside and moved over: an attempt that is cut short and repeated leaves no half of a file.
    beside = path.with_suffix(f".{ctx.fence}.part")
    beside.write_bytes(REPORT.dump_json(report, indent=2))
    beside.replace(path)
    return {"report_path": str(path), "modules": report.modules, "lines": report.lines}


def _all_completed(children: Sequence[Child]) -> Sequence[Child]:
    """A parent resumes whatever became of its children; this one has no use for a part of a report."""
    missing = [each for each in children if each.status is not Status.COMPLETED]
    if missing:
        raise PermanentError(f"{len(missing)} of {len(children)} packages were not counted, first task {missing[0].id}")
    return children


def _make(trouble: str) -> None:
    if trouble == "hang":
        time.sleep(60)
    raise RuntimeError("this first attempt was asked to fail")
