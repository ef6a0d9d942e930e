"""The alerts: each fires on what it is for and resolves when that is over, says so in a sentence, and has its runbook.

promtool runs the rules as Prometheus would. A case is a story in minutes: the series, when it must fire with which
sentence, and when it must be quiet again.
"""

import json
import re
import subprocess
from dataclasses import dataclass, field
from typing import Any

import click
import pytest
import yaml

from cluster import programs
from fibflow import cli
from manifests.charts import CHART, ROOT, one, render

RULES = CHART / "files" / "rules.yaml"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RUNBOOKS = ROOT / "docs" / "runbooks.md"


@dataclass(frozen=True)
class Case:
    """`series`: names and values, one a minute. `says`: the alert's description when it fires."""

    series: dict[str, str]
    fires: str
    resolved: str
    says: str
    labels: dict[str, str] = field(default_factory=dict)


def _gauge(good: object, bad: object, minutes: int) -> str:
    """Good for five minutes, bad for so many, and good again."""
    return f"{good}x5 {bad}x{minutes} {good}x60"


POD = {"namespace": "ns", "pod": "p"}
OF_POD = '{namespace="ns",pod="p"}'
OF_QUEUE = '{task_namespace="team",type="resize"}'
LEADING = f"fibflow_operator_leader{OF_POD}"
GROWING = "0x5 0+2x29 58x60"

CASES = {
    "FibflowNoLeader": Case(
        {LEADING: _gauge(1, 0, 10)},
        "9m",
        "20m",
        "Tasks run on, but nothing that is applied takes effect. No operator has led for two minutes.",
    ),
    "FibflowOperatorDatabaseDown": Case(
        {LEADING: "1x90", f"fibflow_operator_database_up{OF_POD}": _gauge(1, 0, 10)},
        "8m",
        "20m",
        "p leads and cannot read the database; workers most likely cannot either.",
        POD,
    ),
    "FibflowOperatorApiDown": Case(
        {LEADING: "1x90", f"fibflow_operator_api_up{OF_POD}": _gauge(1, 0, 10)},
        "12m",
        "20m",
        "p leads and gets no complete list from the API server.",
        POD,
    ),
    "FibflowReconcileStuck": Case(
        {'fibflow_operator_queue_oldest_seconds{namespace="ns",pod="p",stage="rows"}': _gauge(0, 90, 10)},
        "12m",
        "20m",
        "A key of rows has been waiting for 1m 30s in p.",
        POD | {"stage": "rows"},
    ),
    "FibflowReconcileFailing": Case(
        {'fibflow_operator_reconciled_total{namespace="ns",stage="rows",result="failed"}': GROWING},
        "25m",
        "55m",
        "20 times in ten minutes, rows of a resource could not be written.",
        {"namespace": "ns", "stage": "rows"},
    ),
    "FibflowQueueOld": Case(
        {f"fibflow_oldest_pending_seconds{OF_QUEUE}": _gauge(1, 600, 10)},
        "12m",
        "20m",
        "The oldest task of resize in team has been due for 10m 0s.",
        {"task_namespace": "team", "type": "resize"},
    ),
    "FibflowNoWorkers": Case(
        {
            f"fibflow_oldest_pending_seconds{OF_QUEUE}": "90x90",
            'fibflow_workers{task_namespace="team"}': _gauge(1, 0, 10),
        },
        "12m",
        "20m",
        "The oldest task of team has been due for 1m 30s, and no worker is active there.",
        {"task_namespace": "team"},
    ),
    "FibflowAttemptsFailing": Case(
        {
            'fibflow_attempts_total{namespace="ns",type="resize",outcome="completed"}': "0+1x90",
            'fibflow_attempts_total{namespace="ns",type="resize",outcome="failed"}': "0x5 0+3x29 87x60",
        },
        "25m",
        "50m",
        "75% of the attempts of resize fail or time out.",
        {"namespace": "ns", "type": "resize"},
    ),
    "FibflowTasksFailed": Case(
        {'fibflow_permanent_failures_total{namespace="ns",type="resize"}': GROWING},
        "30m",
        "60m",
        "30 tasks of resize used up their attempts in a quarter of an hour.",
        {"namespace": "ns", "type": "resize"},
    ),
    "FibflowCronLate": Case(
        {'fibflow_cron_overdue_seconds{task_namespace="team",cron="nightly"}': _gauge(0, 120, 10)},
        "8m",
        "20m",
        "nightly in team is 2m 0s late: nobody decides its instants.",
        {"task_namespace": "team", "cron": "nightly"},
    ),
    "FibflowCronPaused": Case(
        {'fibflow_cron_paused{task_namespace="team"}': _gauge(0, 2, 10)},
        "8m",
        "20m",
        "2 cron tasks of team are paused, because a tick failed for good.",
        {"task_namespace": "team"},
    ),
    "FibflowWorkersLost": Case(
        {'fibflow_lost_workers_total{namespace="ns",pod="p",cause="superseded"}': GROWING},
        "30m",
        "60m",
        "30 workers ended without draining in a quarter of an hour; look at their pods' restarts.",
    ),
    "FibflowWorkersMissing": Case(
        {
            'fibflow_operator_wanted_workers{task_namespace="team",pool="gpu"}': "3x90",
            'fibflow_operator_ready_workers{task_namespace="team",pool="gpu"}': _gauge(3, 1, 20),
        },
        "18m",
        "30m",
        "gpu in team lacks 2 workers; its pods do not come up, or not for long.",
        {"task_namespace": "team", "pool": "gpu"},
    ),
    "FibflowLeaseAtRisk": Case(
        {f"fibflow_lease_age_seconds{OF_POD}": _gauge(2, 20, 10)},
        "8m",
        "20m",
        "p renewed its lease 20s ago; past the lease others take its tasks.",
        POD,
    ),
    "FibflowHandlersLinger": Case(
        {f"fibflow_lingering_handlers{OF_POD}": _gauge(0, 2, 20)},
        "23m",
        "30m",
        "2 slots of p are held by handlers whose attempts have ended.",
        POD,
    ),
    "FibflowStaleWrites": Case(
        {'fibflow_stale_writes_total{namespace="ns",pod="p",verb="complete"}': GROWING},
        "30m",
        "60m",
        "30 writes of attempts that others had taken over were refused. Nothing is lost; time is.",
    ),
    "FibflowDatabaseErrors": Case(
        {'fibflow_database_errors_total{namespace="ns",pod="p",kind="unavailable"}': GROWING},
        "25m",
        "50m",
        "10 calls failed in five minutes (unavailable).",
        {"namespace": "ns", "kind": "unavailable"},
    ),
    "FibflowOldTransaction": Case(
        {f"fibflow_database_oldest_transaction_seconds{OF_POD}": _gauge(1, 1800, 10)},
        "12m",
        "20m",
        "The oldest transaction is 30m 0s old; dead rows cannot be cleared meanwhile.",
        POD,
    ),
    "FibflowDeadRows": Case(
        {
            'fibflow_database_dead_rows{namespace="ns",pod="p",table="task"}': _gauge(100, 500000, 20),
            'fibflow_database_live_rows{namespace="ns",pod="p",table="task"}': "1000x90",
        },
        "23m",
        "30m",
        "task has 500k dead rows, many times its live ones.",
        POD | {"table": "task"},
    ),
    "FibflowClaimWithoutIndex": Case(
        {f"fibflow_database_claim_indexed{OF_POD}": _gauge(1, 0, 15)},
        "17m",
        "25m",
        "The plan of a claim walks through the whole table; every claim gets slower with the queue.",
        POD,
    ),
    "FibflowConnectionsRunOut": Case(
        {
            f"fibflow_database_connections{OF_POD}": _gauge(10, 95, 10),
            f"fibflow_database_max_connections{OF_POD}": "100x90",
        },
        "12m",
        "20m",
        "95% of the server's connections are in use.",
        POD,
    ),
}


OF_TYPE = 'namespace="ns",type="resize"'
RECORDED = {
    "fibflow:attempts:rate5m": (
        {
            f'fibflow_attempts_total{{{OF_TYPE},pod="a",outcome="completed"}}': "0+60x10",
            f'fibflow_attempts_total{{{OF_TYPE},pod="b",outcome="completed"}}': "0+120x10",
            f'fibflow_attempts_total{{{OF_TYPE},pod="a",outcome="failed"}}': "0+30x10",
        },
        {f'{OF_TYPE},outcome="completed"': 3, f'{OF_TYPE},outcome="failed"': 0.5},
    ),
    "fibflow:failures:ratio5m": (
        {
            f'fibflow_attempts_total{{{OF_TYPE},outcome="completed"}}': "0+60x10",
            f'fibflow_attempts_total{{{OF_TYPE},outcome="failed"}}': "0+30x10",
            f'fibflow_attempts_total{{{OF_TYPE},outcome="timeout"}}': "0+30x10",
        },
        {OF_TYPE: 0.5},
    ),
    "fibflow:slots_busy:ratio": (
        {
            'fibflow_slots_busy{namespace="ns",pod="a"}': "1x10",
            'fibflow_slots_busy{namespace="ns",pod="b"}': "0x10",
            'fibflow_slots{namespace="ns",pod="a"}': "2x10",
            'fibflow_slots{namespace="ns",pod="b"}': "2x10",
        },
        {'namespace="ns"': 0.25},
    ),
    "fibflow:pickup_seconds:p95_5m": (
        {
            'fibflow_pickup_seconds_bucket{namespace="ns",pod="a",le="1"}': "0+45x10",
            'fibflow_pickup_seconds_bucket{namespace="ns",pod="a",le="2"}': "0+50x10",
            'fibflow_pickup_seconds_bucket{namespace="ns",pod="a",le="+Inf"}': "0+50x10",
            'fibflow_pickup_seconds_bucket{namespace="ns",pod="b",le="1"}': "0+45x10",
            'fibflow_pickup_seconds_bucket{namespace="ns",pod="b",le="2"}': "0+50x10",
            'fibflow_pickup_seconds_bucket{namespace="ns",pod="b",le="+Inf"}': "0+50x10",
        },
        {'namespace="ns"': 1.5},
    ),
    "fibflow:attempt_duration_seconds:p95_5m": (
        {
            f'fibflow_attempt_duration_seconds_bucket{{{OF_TYPE},le="1"}}': "0+90x10",
            f'fibflow_attempt_duration_seconds_bucket{{{OF_TYPE},le="3"}}': "0+100x10",
            f'fibflow_attempt_duration_seconds_bucket{{{OF_TYPE},le="+Inf"}}': "0+100x10",
        },
        {OF_TYPE: 2},
    ),
}
"""What a rule records, from which series, one value a minute; by its labels."""


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([programs.apart("promtool"), *arguments], capture_output=True, text=True)


def _told(name, case):
    annotations = ALERTS[name]["annotations"] | {"description": case.says}
    return {"exp_labels": ALERTS[name]["labels"] | case.labels, "exp_annotations": annotations}


def _story(name, case):
    moments: list[tuple[str, list[dict[str, Any]]]] = [("2m", []), (case.fires, [_told(name, case)]), (case.resolved, [])]
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": told} for at, told in moments],
    }


def test_every_alert_fires_and_resolves_and_says_what_is_wrong(tmp_path):
    assert CASES.keys() == ALERTS.keys()
    tests = {"rule_files": [str(RULES)], "tests": [_story(name, case) for name, case in CASES.items()]}
    file = tmp_path / "alerts.yaml"
    file.write_text(json.dumps(tests))
    done = _promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_record_is_what_its_name_says(tmp_path):
    assert RECORDED.keys() == {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
    stories = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": f"round({record}, 0.001)", "eval_time": "9m", "exp_samples": _samples(told)}],
        }
        for record, (series, told) in RECORDED.items()
    ]
    file = tmp_path / "records.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": stories}))
    done = _promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def _samples(told):
    return [{"labels": f"{{{labels}}}", "value": value} for labels, value in told.items()]


def test_promtool_finds_nothing_to_remark():
    done = _promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_as_it_should_be_is_no_alert(tmp_path):
    """A worker is there, or none is needed yet; types are told together; what is not the leader's counts for nothing."""
    quiet = {
        "FibflowNoWorkers": {
            f"fibflow_oldest_pending_seconds{OF_QUEUE}": "90x30",
            'fibflow_workers{task_namespace="team"}': "1x30",
            'fibflow_oldest_pending_seconds{task_namespace="idle",type="nightly"}': "0x30",
            'fibflow_tasks{task_namespace="idle",type="nightly",status="pending"}': "3x30",
            'fibflow_oldest_pending_seconds{task_namespace="_other",type="_other"}': "90x30",
        },
        "FibflowOperatorDatabaseDown": {
            LEADING: "0x30",
            f"fibflow_operator_database_up{OF_POD}": "0x30",
        },
        "FibflowNoLeader": {LEADING: "0x30", 'fibflow_operator_leader{namespace="ns",pod="other"}': "1x30"},
        "FibflowDatabaseErrors": {'fibflow_database_errors_total{namespace="ns",pod="p",kind="contention"}': "0+9x30"},
    }
    stories = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": "25m", "alertname": alert, "exp_alerts": []}],
        }
        for alert, series in quiet.items()
    ]
    file = tmp_path / "quiet.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": stories}))
    done = _promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("alert", "metric"),
    [
        ("FibflowQueueOld", 'fibflow_oldest_pending_seconds{task_namespace="team",type="resize",pod="%s"}'),
        ("FibflowNoWorkers", 'fibflow_oldest_pending_seconds{task_namespace="team",type="resize",pod="%s"}'),
        ("FibflowCronLate", 'fibflow_cron_overdue_seconds{task_namespace="team",cron="nightly",pod="%s"}'),
        ("FibflowCronPaused", 'fibflow_cron_paused{task_namespace="team",pod="%s"}'),
    ],
)
def test_what_one_leader_has_told_the_next_one_goes_on_telling(alert, metric, tmp_path):
    firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    story = {
        "interval": "1m",
        "input_series": [
            {"series": metric % "former", "values": "600x6 stale"},
            {"series": metric % "next", "values": "_x7 600x9"},
        ],
        "promql_expr_test": [{"expr": firing, "eval_time": "7m", "exp_samples": [{"labels": "{}", "value": 1}]}],
    }
    file = tmp_path / "leaders.yaml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [story]}))
    done = _promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_names_its_runbook_and_there_is_one(name):
    anchors = {title.lower() for title in re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)}
    assert ALERTS[name]["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
    assert name.lower() in anchors


def test_no_runbook_is_left_without_its_alert():
    assert set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == ALERTS.keys()


@pytest.mark.parametrize("told", sorted(set(re.findall(r"`(fibflow [^`]+)`", RUNBOOKS.read_text()))))
def test_every_command_of_a_runbook_is_one(told):
    group: Any = cli.commands
    _, *words = told.split()
    while isinstance(group, click.Group):
        group = group.commands[words.pop(0)]
    assert group.make_context(group.name, ["7" if word == "ID" else word for word in words]).command is group


def test_every_word_of_a_log_that_a_runbook_names_is_one_that_programs_write():
    events = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", RUNBOOKS.read_text())) - {"task_claim", "task_namespace"}
    sources = [path.read_text() for folder in ("operator", "worker") for path in (ROOT / folder).rglob("*.py")]
    assert {event for event in events if not any(f'"{event}"' in source for source in sources)} == set()
    assert len(events) >= 9


def _annotations(**runbooks):
    """Those of every alert that the chart makes."""
    monitoring = {"prometheusRule": {"enabled": True, **runbooks}}
    rule = one(render({"database": {"existingSecret": "mine"}, "monitoring": monitoring}), "PrometheusRule")
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each]
    return {each["alert"]: each["annotations"] for each in alerts}


def test_the_chart_leaves_alerts_as_they_are_and_links_no_runbook_whose_address_it_does_not_know():
    assert _annotations() == {name: alert["annotations"] for name, alert in ALERTS.items()}
    assert "runbook_url" not in str(ALERTS)


def test_the_chart_links_every_runbook_where_their_page_is():
    page = "https://wiki.example/$1/fibflow?a=b"
    for name, annotations in _annotations(runbooks=page).items():
        assert annotations == ALERTS[name]["annotations"] | {"runbook_url": f"{page}#{name.lower()}"}
