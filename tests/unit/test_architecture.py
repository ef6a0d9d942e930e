"""What the layout promises. Who may import whom is held by import-linter, in `make check`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for root in ("operator", "worker", "tests", "tools", "examples") for path in (ROOT / root).rglob("*.py"))


@pytest.mark.parametrize("root", ["operator", "worker"])
def test_a_source_root_is_not_a_package(root):
    # Python started in the repository's root would import it in place of the standard library's.
    assert not (ROOT / root / "__init__.py").exists()


def test_nothing_under_tests_is_named_like_a_module_of_the_standard_library():
    names = {path.stem for path in (ROOT / "tests").iterdir()}
    assert names & sys.stdlib_module_names == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = [
    (folder, name)
    for folder, rows in re.findall(r"^## [^\n`]*`(\S+)`$(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", rows)
]


@pytest.mark.parametrize(("folder", "name"), NAMED)
def test_the_page_of_the_architecture_names_what_is_there(folder, name):
    assert (ROOT / folder / name).exists()


def test_the_page_of_the_architecture_names_every_module():
    named = {ROOT / folder / name for folder, name in NAMED}
    folders = {ROOT / folder for folder, _ in NAMED}
    there = {path for folder in folders for path in folder.rglob("*.py") if not path.name.startswith("__")}
    assert [str(path.relative_to(ROOT)) for path in sorted(there) if not named & {path, *path.parents}] == []


LEFT_OUT = {"alembic", "jsonschema", "kopf", "kubernetes", "mako", "yaml"}


@pytest.mark.parametrize("left_out", sorted(LEFT_OUT))
def test_a_worker_starts_without_what_only_others_need(left_out, started_modules):
    assert left_out not in started_modules


@pytest.fixture(scope="module")
def started_modules():
    """The top names of all that a worker imports before its application."""
    code = "import sys, fibflow_worker.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("package", ["operator/fibflow_operator", "worker/fibflow", "worker/fibflow_worker"])
def test_a_package_ships_its_types(package):
    assert (ROOT / package / "py.typed").exists()
