"""The reference pages and the chart's copies say what their sources say."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "reference.py"))


@pytest.mark.parametrize("name", sorted(TOOL["pages"]()))
def test_the_page_is_up_to_date(name):
    written = (ROOT / "docs" / "reference" / name).read_text()
    assert written == TOOL["pages"]()[name], "run `make reference`"


@pytest.mark.parametrize("name", sorted(TOOL["copies"]()))
def test_the_chart_installs_what_the_tests_use(name):
    assert (ROOT / "charts" / "fibflow" / name).read_text() == TOOL["copies"]()[name], "run `make reference`"


def test_the_page_of_resources_tells_bounds_and_rules():
    page = TOOL["pages"]()["resources.md"]
    assert "| `spec.deletionPolicy` | string |" in page and "one of Retain, Drain, Cancel; default `Drain`" in page
    assert "- `spec`: name cannot be changed" in page
    assert "| `spec.env[].name` |" in page
