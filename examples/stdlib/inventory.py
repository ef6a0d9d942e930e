"""What a tree of Python source files holds, counted from its syntax trees.

Pure but for reading the files: no tasks, no database, nothing of fibflow. app.py spreads this work over workers,
demo.py does it again in one process to check what the workers found.
"""

from __future__ import annotations

import ast
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"})
"""Directories that hold no library code: caches, other people's packages, test suites, grammars of an old Python."""

TOP = 10


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method by its module, its name, and its lines from `def` to its end."""

    module: str
    name: str
    lines: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What a module holds, or all modules of a package."""

    name: str
    modules: int
    classes: int
    functions: int
    lines: int
    longest: Function | None


@dataclass(frozen=True, slots=True)
class Report:
    """What all packages hold together, and the largest of them by lines."""

    modules: int
    classes: int
    functions: int
    lines: int
    longest: Function | None
    largest: Sequence[Counts]


def standard_library() -> Path:
    """Where the running Python keeps its standard library; from a virtual environment, its base's."""
    return Path(sysconfig.get_path("stdlib"))


def packages(root: Path) -> Mapping[str, Sequence[str]]:
    """The importable modules below `root` as relative paths, by their top-level package or module."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _is_library_code(relative):
            found[relative.with_suffix("").parts[0]].append(relative.as_posix())
    return dict(found)


def count_package(name: str, root: Path, files: Iterable[str]) -> Counts:
    """Read and count the files of one package."""
    return _together(name, [count_module(module_name(file), (root / file).read_bytes()) for file in files])


def count_module(name: str, source: bytes) -> Counts:
    """Count one module. Bytes, since a source file declares its own encoding."""
    nodes = list(ast.walk(ast.parse(source)))
    functions = [
        Function(name, node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return Counts(
        name=name,
        modules=1,
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        functions=len(functions),
        lines=len(source.splitlines()),
        longest=_longest(functions),
    )


def merge(counts: Sequence[Counts]) -> Report:
    """The report over all packages. The order they come in does not matter."""
    total = _together("", counts)
    by_size = sorted(counts, key=lambda package: (-package.lines, package.name))
    return Report(total.modules, total.classes, total.functions, total.lines, total.longest, by_size[:TOP])


def module_name(file: str) -> str:
    """`email/mime/text.py` is `email.mime.text`, `email/__init__.py` is `email`."""
    return ".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")


def _is_library_code(relative: Path) -> bool:
    parts = relative.with_suffix("").parts
    return all(part.isidentifier() and part not in LEFT_OUT for part in parts)


def _together(name: str, counts: Sequence[Counts]) -> Counts:
    return Counts(
        name=name,
        modules=sum(each.modules for each in counts),
        classes=sum(each.classes for each in counts),
        functions=sum(each.functions for each in counts),
        lines=sum(each.lines for each in counts),
        longest=_longest(each.longest for each in counts if each.longest is not None),
    )


def _longest(functions: Iterable[Function]) -> Function | None:
    # Names break ties, so that the answer does not depend on which worker was first.
    return min(functions, key=lambda function: (-function.lines, function.module, function.name), default=None)
