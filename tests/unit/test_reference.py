"""The reference pages and the chart's copies say what their sources say."""

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "reference.py"))
PAGES = TOOL["pages"]()
COPIES = TOOL["copies"]()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_is_up_to_date(name):
    written = (ROOT / "docs" / "reference" / name).read_text()
    assert written == PAGES[name], "run `make reference`"


@pytest.mark.parametrize("name", sorted(COPIES))
def test_the_chart_installs_what_the_tests_use(name):
    assert (ROOT / "charts" / "fibflow" / name).read_text() == COPIES[name], "run `make reference`"


def test_the_page_of_resources_tells_bounds_and_rules():
    page = PAGES["resources.md"]
    assert "| `spec.deletionPolicy` | string |" in page and "one of Retain, Drain, Cancel; default `Drain`" in page
    assert "- `spec`: name cannot be changed" in page
    assert "| `spec.env[].name` |" in page


@pytest.mark.parametrize("name", ["client.md", "options.md"])
def test_a_signature_can_be_read_as_code(name):
    signatures = re.findall(r"^`([\w.]+)(\(.*)`$", PAGES[name], re.MULTILINE)
    assert signatures
    for method, rest in signatures:
        ast.parse(f"def {method.replace('.', '_')}{rest}: ...")


@pytest.mark.parametrize("name", TOOL["ORDER"])
def test_the_workers_of_a_types_own_have_the_fields_of_a_pool(name):
    assert (ROOT / "crds" / f"{name}.yaml").read_text() == TOOL["definition"](name), "run `make reference`"


def test_every_target_of_make_is_told_to_contributors():
    targets = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert [target for target in targets if f"`make {target}" not in page] == []
