"""Upgrades under load: the schema grows, the operator and the definitions change, the schema shrinks, and back, and away.

The next two versions are what tests/e2e/upgrade makes of the images of this tree, and copies of the chart that say so. All
the while tasks run, each for a second or two and some for most of a minute, and a cron task ticks every second.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster import images
from cluster.waiting import until
from e2e import fleets, releases
from e2e.planes import FULL, cron_task
from e2e.releases import CHART, Release
from fibflow.store.schema import newest
from fibflow.version import __version__

DATABASE = "upgraded"
EXPANDED, CONTRACTED = (f"{int(newest()) + step:04}" for step in (1, 2))
MANY, LONG, LASTS = (300, 6, 45) if FULL else (60, 4, 20)
"""Tasks of a second or two, five of which come a second, and long ones, which last so many seconds."""
NAMES = ("operator", "fleet")
ENQUEUE = f"""
import os, sys
from fibflow import Client, NewTask
some = [NewTask("work", {{"seconds": 1 + number % 2}}, tag=sys.argv[1], delay=number / 5) for number in range({MANY})]
some += [NewTask("work", {{"seconds": {LASTS}}}, tag=sys.argv[1]) for _ in range({LONG})]
Client(os.environ["FIBFLOW_DATABASE"], namespace=sys.argv[2]).enqueue_many(some)
"""
NOT_DONE = "SELECT count(*) FROM fibflow.task WHERE tag = '{}'"
DONE = """
SELECT count(*), count(*) FILTER (WHERE status = 'completed'), sum(failures), sum(interruptions)
FROM fibflow.task_final WHERE tag = '{}'
"""
OUTCOMES = """
SELECT DISTINCT a.outcome FROM fibflow.attempt a JOIN fibflow.task_final t ON t.id = a.task_id WHERE t.tag = '{}'
"""
UNDECIDED = "SELECT (max(tick) - min(tick)) / 1000000 + 1 - sum(coalesce(count, 0)) FROM fibflow.cron_tick"


@dataclass(frozen=True)
class Version:
    """What a version consists of."""

    chart: Path
    operator: str
    workers: str


@pytest.fixture(scope="module")
def versions(own_cluster, tmp_path_factory):
    """This version and the next two: as it is, `expanded`, `contracted`."""
    built = [("", releases.operator(), fleets.application())]
    for step in ("expanded", "contracted"):
        operator, workers = (_next(step, name, image) for name, image in zip(NAMES, built[0][1:], strict=True))
        built.append((step, operator, workers))
    folder = tmp_path_factory.mktemp("charts")
    return [
        Version(_chart(folder, step), own_cluster.give(operator), own_cluster.give(workers))
        for step, operator, workers in built
    ]


def _next(step, name, image):
    """The image of a later version."""
    return images.of(Path(__file__).parent / "upgrade", f"{name}-{step}", step, parents={"previous": image})


def _chart(folder, step):
    """The chart of a version; a later one has one more column for people who look at task types."""
    if not step:
        return CHART
    made = folder / step
    shutil.copytree(CHART, made)
    numbers = made / "Chart.yaml"
    numbers.write_text(numbers.read_text().replace(__version__, f"{__version__}+{step}"))
    definition = made / "files" / "crds" / "tasktype.yaml"
    columns = "additionalPrinterColumns:\n"
    text = definition.read_text()
    indent = text.partition(columns)[0].rpartition("\n")[2]
    column = f"{indent}  - {{name: {step.title()}, type: string, jsonPath: .spec.description}}\n"
    assert columns in text
    definition.write_text(text.replace(columns, columns + column))
    return made


@pytest.fixture(scope="module")
def release(own_cluster, versions, tmp_path_factory):
    """A release of this version, with a pool that works and a cron task that ticks."""
    with releases.restricted(own_cluster, "upgraded") as namespace:
        own_cluster.postgres.sql(f"CREATE DATABASE {DATABASE}")
        own_cluster.apply(fleets.secret(own_cluster.postgres.url(DATABASE)), namespace)
        made = Release(own_cluster, namespace, versions[0].operator, tmp_path_factory.mktemp("release"))
        _upgrade(made, versions[0])
        _staff(made, versions[0])
        ticking = {"concurrencyPolicy": "Allow", "payload": {"seconds": 0}}
        own_cluster.apply(json.dumps(fleets.bound()), namespace)
        own_cluster.apply(json.dumps(cron_task("ticking", schedule="* * * * * *", **ticking)), namespace)
        own_cluster.wait("condition=Ready", "tasktypes,crontasks,workerpools", "--all", namespace=namespace, seconds=90)
        yield made
        made.helm("uninstall", "my")


def _upgrade(release, version):
    """Install, or bring to, a version; return when it is there."""
    repository, _, tag = version.operator.rpartition(":")
    image = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    database = {"database": {"existingSecret": "fibflow-database"}, "watchNamespaces": [release.namespace]}
    release.install({**database, "image": image}, version.chart)
    until(lambda: len(release.operators()) == 2, 60, "the former operators are gone")


def _staff(release, version):
    """Have the pool run a version's workers."""
    pool = fleets.pool(version.workers, replicas=2, slots=20, drainSeconds=120)
    release.cluster.apply(json.dumps(pool), release.namespace)


def _load(release, tag):
    """A minute of tasks; half of one in short."""
    command = ("python", "-c", ENQUEUE, tag, release.namespace)
    release.cluster.kubectl("exec", "-n", release.namespace, "deploy/my-fibflow-operator", "-c", "operator", "--", *command)
    until(lambda: _sql(release, f"SELECT count(*) >= {LONG} FROM fibflow.task WHERE state = 'running'") == "t", 30, "they run")


def _sql(release, statement):
    return release.cluster.postgres.sql(statement, DATABASE)


def _nothing_happened_to(release, tag):
    """Every task of the load is completed by attempts of which none failed and none was interrupted."""
    until(lambda: _sql(release, NOT_DONE.format(tag)) == "0", 150, f"all of {tag} is done")
    assert _sql(release, DONE.format(tag)).split("|") == [str(MANY + LONG), str(MANY + LONG), "0", "0"]
    assert _sql(release, OUTCOMES.format(tag)) == "completed"


def _workers(release):
    ours = ("pods", "-l", "fibflow.dev/pool=pool")
    return set(release.cluster.field(".items[*].metadata.uid", *ours, namespace=release.namespace).split())


def _columns(release):
    return release.cluster.kubectl("get", "tasktypes", "-n", release.namespace).splitlines()[0].split()


def _schema(release):
    return _sql(release, "SELECT version FROM fibflow.schema_version")


def test_the_schema_grows_under_the_workers_of_before_and_a_rollback_finds_it_good_enough(release, versions):
    before = _workers(release)
    _load(release, "grows")
    operators = set(release.operators())
    _upgrade(release, versions[1])
    assert _schema(release) == EXPANDED
    until(lambda: "EXPANDED" in _columns(release), 20, "the definition is the new one")
    assert not operators & set(release.operators())
    release.helm("rollback", "my", "1", "--wait", "--timeout", "180s")
    assert _schema(release) == EXPANDED
    until(lambda: "EXPANDED" not in _columns(release), 20, "the definition is the former one")
    _nothing_happened_to(release, "grows")
    assert _workers(release) == before


def test_workers_follow_one_by_one_and_what_they_run_is_finished_first(release, versions):
    _upgrade(release, versions[1])
    before = _workers(release)
    _load(release, "follow")
    _staff(release, versions[1])
    until(lambda: not before & _workers(release), 180, "the pool has new workers")
    _nothing_happened_to(release, "follow")


def test_the_schema_shrinks_when_nobody_needs_what_goes(release, versions):
    before = _workers(release)
    _load(release, "shrinks")
    _upgrade(release, versions[2])
    assert _schema(release) == CONTRACTED
    release.helm("rollback", "my", "--wait", "--timeout", "180s")
    _upgrade(release, versions[2])
    _nothing_happened_to(release, "shrinks")
    assert _workers(release) == before


def test_code_that_is_too_old_says_so_and_what_runs_goes_on(release, versions):
    before = set(release.operators())
    release.helm("rollback", "my", "1")

    def said():
        ours = ("pods", "-l", "app.kubernetes.io/component=operator")
        return release.cluster.field(".items[*].status.containerStatuses[*]", *ours, namespace=release.namespace)

    too_new = f"has schema {CONTRACTED}, too new for fibflow {__version__}: install fibflow"
    until(lambda: too_new in said(), 60, "an operator says why it does not start")
    assert before <= set(release.operators())
    _upgrade(release, versions[2])


def test_an_uninstall_under_load_stops_no_task_and_a_reinstall_picks_everything_up(release, versions):
    before = _workers(release)
    _load(release, "away")
    release.helm("uninstall", "my", "--wait", "--timeout", "60s")
    until(lambda: not release.operators(), 60, "the operators are gone")
    _nothing_happened_to(release, "away")
    _upgrade(release, versions[2])
    if FULL:
        _load(release, "again")
        _nothing_happened_to(release, "again")
    assert _workers(release) == before
    assert int(_sql(release, UNDECIDED)) == 0
