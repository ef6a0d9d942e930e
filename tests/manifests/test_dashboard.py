"""The dashboard, and the rules: every query is one that Prometheus takes, of metrics that the programs serve."""

import json
import re
import runpy
import subprocess
from itertools import combinations
from xml.etree import ElementTree

import pytest
import yaml

from cluster import programs
from manifests.charts import CHART, ROOT, one, render

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
RULES = [rule for group in yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
EXPRESSIONS = QUERIES | {rule.get("alert") or rule["record"]: rule["expr"] for rule in RULES}
METRIC = re.compile(r"\bfibflow[\w:]+")
LABELLED = re.compile(r"\b(fibflow\w+)\{([^}]*)\}")
VARIABLES = {"$__rate_interval": "5m", "$namespace": ".*"}
OF_TARGETS = {"namespace", "pod", "le"}
"""Labels that Prometheus gives to what it scrapes, and a histogram's own."""


@pytest.fixture(scope="module")
def known():
    """The labels of every series by its name: those of the programs, and what the rules record."""
    served = runpy.run_path(str(ROOT / "tools" / "reference.py"))["served"]
    names: dict[str, set[str]] = {rule["record"]: set() for rule in RULES if "record" in rule}
    for each in [*served("worker"), *served("operator")]:
        ends = ("_bucket", "_sum", "_count") if each.kind == "histogram" else ("",)
        names |= {f"{each.name}{end}": {*each.labels, *OF_TARGETS} for end in ends}
    return names


@pytest.mark.parametrize("program", ["worker", "operator"])
def test_promtool_finds_nothing_to_remark_in_the_metrics_of_the_reference(program):
    served = runpy.run_path(str(ROOT / "tools" / "reference.py"))["served"](program)
    text = "".join(f"{line}\n" for each in served for line in _exposed(each))
    done = subprocess.run([programs.apart("promtool"), "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def _exposed(described):
    """A metric as it is served."""
    labels = [f'{label}="x"' for label in described.labels]
    ends = (
        {"_bucket": [*labels, 'le="+Inf"'], "_sum": labels, "_count": labels} if described.kind == "histogram" else {"": labels}
    )
    yield f"# HELP {described.name} {described.help}"
    yield f"# TYPE {described.name} {described.kind}"
    for end, of in ends.items():
        yield f"{described.name}{end}{{{','.join(of)}}} 1"


def test_no_expression_names_a_metric_that_nobody_serves(known):
    for title, expression in EXPRESSIONS.items():
        named = METRIC.findall(expression)
        assert named, title
        assert set(named) <= known.keys(), title


def test_no_expression_asks_for_a_label_that_a_metric_has_not(known):
    for title, expression in EXPRESSIONS.items():
        for name, matchers in LABELLED.findall(expression):
            assert set(re.findall(r"(\w+)\s*(?:=|!)", matchers)) <= known[name], title


def test_every_metric_that_tells_of_trouble_is_shown():
    """Nobody should have to guess a query at night: what an alert names, a panel shows."""
    shown = {name for query in QUERIES.values() for name in METRIC.findall(query)}
    recorded = {rule["record"]: set(METRIC.findall(rule["expr"])) for rule in RULES if "record" in rule}
    for rule in RULES:
        for name in METRIC.findall(rule["expr"]) if "alert" in rule else ():
            assert shown >= recorded.get(name, {name}), rule["alert"]


def test_prometheus_takes_every_query(tmp_path):
    def as_sent(query: str) -> str:
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        return query

    rules = [{"record": f"panel:query:{number}", "expr": as_sent(query)} for number, query in enumerate(QUERIES.values())]
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [programs.apart("promtool"), "check", "rules", "--lint=none", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_panel_says_what_it_shows_in_which_unit_and_from_the_chosen_prometheus():
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "namespace"}
    for panel in PANELS:
        assert panel["description"] and panel["title"], panel["id"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]) or panel["type"] == "stat", panel["title"]


def test_no_query_names_a_namespace_or_a_window_of_its_own():
    for title, query in QUERIES.items():
        chosen = [value for name, value in re.findall(r'(\w*namespace)\s*[=!~]+\s*"([^"]*)"', query)]
        assert set(chosen) <= {"$namespace"}, title
        assert set(re.findall(r"\[([^\]]*)\]", query)) <= {"$__rate_interval"}, title


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    for one_place, other in combinations(places, 2):
        apart = (
            one_place["x"] + one_place["w"] <= other["x"]
            or other["x"] + other["w"] <= one_place["x"]
            or one_place["y"] + one_place["h"] <= other["y"]
            or other["y"] + other["h"] <= one_place["y"]
        )
        assert apart, (one_place, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_the_config_map_holds_the_dashboard_as_it_is():
    monitoring = {"dashboard": {"enabled": True, "labels": {"mine": "yes"}}}
    made = one(render({"database": {"existingSecret": "mine"}, "monitoring": monitoring}), "ConfigMap")
    assert json.loads(made["data"]["fibflow.json"]) == DASHBOARD
    assert made["metadata"]["labels"]["mine"] == "yes"


def test_the_picture_has_every_panel_with_what_prometheus_answers():
    drawing = runpy.run_path(str(ROOT / "tools" / "dashboard.py"))
    asked = []

    def ask(path):
        asked.append(path)
        points = [[1000.0 + second, str(second)] for second in range(0, 61, 10)]
        labels = {"type": "<b>resize</b>", "outcome": "completed"}
        return {"result": [] if len(asked) % 3 == 0 else [{"metric": labels, "values": points}]}

    drawn = ElementTree.fromstring(drawing["picture"](ask, 1060, 1))
    texts = [text for each in drawn.iter("{http://www.w3.org/2000/svg}text") if (text := each.text)]
    assert {panel["title"] for panel in DASHBOARD["panels"]} <= set(texts)
    assert len(asked) == len(QUERIES)
    assert not any("$" in path for path in asked)
    assert any(text.startswith("<b>resize</b>  1 min") for text in texts)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0, "s", "0"),
        (0, "ops", "0 /s"),
        (0.0421, "s", "42.1 ms"),
        (5400, "s", "1.5 h"),
        (0.25, "percentunit", "25 %"),
        (3 * 2**20, "bytes", "3 MiB"),
        (12345, "short", "12.3 k"),
        (0.5, "ops", "0.5 /s"),
    ],
)
def test_a_value_is_shown_in_its_unit(value, unit, said):
    assert runpy.run_path(str(ROOT / "tools" / "dashboard.py"))["shown"](value, unit) == said
