"""The list of guards does not rot: each text stands once in its file, each test is there. `make guards` takes them out."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARDS = runpy.run_path(str(ROOT / "tools" / "guards.py"))["guards"]()


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_stands_once_in_its_file_and_its_test_is_there(guard):
    assert (ROOT / guard.file).read_text().count(guard.code) == 1
    assert guard.without != guard.code
    file, _, name = guard.test.partition("::")
    assert re.search(rf"def {name.partition('[')[0]}\(", (ROOT / file).read_text())


def test_no_two_guards_have_one_name():
    names = [guard.name for guard in GUARDS]
    assert len(names) == len(set(names))
