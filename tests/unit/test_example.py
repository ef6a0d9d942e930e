"""What the example counts, on sources small enough to count by hand."""

from pathlib import Path

import pytest

from inventory import Counts, Function, count_module, count_package, merge, module_name, packages

SOURCE = b"""\
class Cat:
    def purr(self):
        async def deeper():
            pass

def feed(): ...
"""


def counts(name: str, lines: int, longest: Function | None = None) -> Counts:
    return Counts(name, modules=1, classes=0, functions=0, lines=lines, longest=longest)


def test_methods_and_nested_functions_are_functions():
    assert count_module("cats", SOURCE) == Counts("cats", 1, 1, 3, 6, Function("cats", "purr", 3))


def test_an_empty_module_has_no_longest_function():
    assert count_module("nothing", b"") == Counts("nothing", 1, 0, 0, 0, None)


def test_a_source_is_read_in_the_encoding_it_declares():
    assert count_module("old", b"# coding: latin-1\nname = '\xe9'\n").lines == 2


def test_a_package_is_counted_with_all_its_files(tmp_path: Path):
    (tmp_path / "cats.py").write_bytes(SOURCE)
    (tmp_path / "dogs.py").write_bytes(b"class Dog: ...\n")
    assert count_package("pets", tmp_path, ["cats.py", "dogs.py"]) == Counts("pets", 2, 2, 3, 7, Function("cats", "purr", 3))


@pytest.mark.parametrize(
    ("file", "name"), [("abc.py", "abc"), ("email/__init__.py", "email"), ("email/mime/text.py", "email.mime.text")]
)
def test_a_module_is_named_as_it_is_imported(file: str, name: str):
    assert module_name(file) == name


def test_modules_are_listed_by_their_top_level_package(tmp_path: Path):
    for file in ("abc.py", "email/__init__.py", "email/mime/text.py"):
        _touch(tmp_path / file)
    assert packages(tmp_path) == {
        "abc": ["abc.py"],
        "email": ["email/__init__.py", "email/mime/text.py"],
    }


@pytest.mark.parametrize(
    "file",
    ["test/test_abc.py", "site-packages/pip.py", "idlelib/idle_test/t.py", "a-b.py", "abc.txt", "x/__pycache__/y.py"],
)
def test_what_is_no_library_code_is_left_out(tmp_path: Path, file: str):
    _touch(tmp_path / file)
    assert packages(tmp_path) == {}


def test_a_report_does_not_depend_on_the_order_of_its_parts():
    parts = [counts("b", 5, Function("b", "f", 3)), counts("a", 5, Function("a", "f", 3)), counts("c", 9)]
    assert merge(parts) == merge(parts[::-1])
    assert [part.name for part in merge(parts).largest] == ["c", "a", "b"]
    assert merge(parts).longest == Function("a", "f", 3)


def test_a_report_names_ten_packages_and_counts_all():
    report = merge([counts(f"p{n:02}", lines=n) for n in range(12)])
    assert [part.lines for part in report.largest] == list(range(11, 1, -1))
    assert (report.modules, report.lines) == (12, 66)


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
