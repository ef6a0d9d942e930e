"""docs/fib-flow.md is a page of promises: each of its rows names the test that keeps it, and the test is there."""

import ast
import re
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fib-flow.md").read_text()
ROWS = [line[2:-2].split(" | ") for line in PAGE.splitlines() if re.match(r"\| F\d", line)]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def written_in(file):
    """The test functions of a file; none for one that is not there."""
    path = ROOT / file
    body = ast.parse(path.read_text()).body if path.is_file() else []
    return {item.name for item in body if isinstance(item, ast.FunctionDef) and item.name.startswith("test_")}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED.findall(PAGE)}))
def test_every_test_that_the_page_names_is_there(file):
    named = {test for known, test in NAMED.findall(PAGE) if known == file}
    assert named <= written_in(file)


def test_every_file_of_semantics_is_named():
    files = {f"tests/semantics/{path.name}" for path in (ROOT / "tests" / "semantics").glob("test_*.py")}
    assert files <= {file for file, _ in NAMED.findall(PAGE)}


def test_every_row_has_five_cells_and_ends_with_a_test_or_a_dash():
    assert len(ROWS) > 300
    for row in ROWS:
        assert len(row) == 5 and all(cell.strip() for cell in row), row
        assert row[4] == "–" or NAMED.sub("", row[4]).strip(", ") == "", row


def test_rows_are_numbered_without_a_gap():
    numbers = [tuple(map(int, row[0].removeprefix("F").split("."))) for row in ROWS]
    sections = [(section, [row for _, row in rows]) for section, rows in groupby(numbers, key=lambda number: number[0])]
    assert [section for section, _ in sections] == list(range(1, len(sections) + 1))
    for section, rows in sections:
        assert rows == list(range(1, len(rows) + 1)), f"section {section}"
