"""YAML as resources are written in it: the part of it that is JSON, with the line of everything.

For `resources`. It knows no kind and no schema. Tags are never obeyed, a date is text, a key may stand once, and what
is nested too deep or grows too large by its aliases is refused. What is refused is an InvalidManifest that names the
file, the line and the column, and shows what stands there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fibflow.errors import InvalidManifest

LARGEST_FILE = 4 << 20
DEEPEST = 64
MOST_VALUES = 200_000
PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge"))
NEAR = 40
MEND = "mend the brackets or the indentation, or put text in quotes"
TOO_DEEP = f"is nested deeper than {DEEPEST} levels; make it flatter"
TIMESTAMP = "tag:yaml.org,2002:timestamp"

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its value, and where each part of it begins."""

    file: Path
    line: int
    value: Any
    nodes: yaml.Node = field(repr=False)

    def line_of(self, place: Place) -> int:
        """The line of the value at a place; of the nearest that is there, if it is not."""
        return _found(self.nodes, place).start_mark.line + 1


def documents(file: Path) -> list[Document]:
    """The documents of a file; empty ones are left out. Raises InvalidManifest."""
    loader = _loader(file)
    try:
        return [
            Document(file, node.start_mark.line + 1, _value(loader, node, file), node)
            for node in _nodes(loader)
            if node.tag != "tag:yaml.org,2002:null"
        ]
    except yaml.MarkedYAMLError as error:
        raise _refused(file, _where(error, loader), f"is not YAML: {error.problem}; {MEND}") from None
    except RecursionError:
        raise _refused(file, loader.get_mark(), TOO_DEEP) from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """The safe loader, for which a date is text, as it is for Kubernetes."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _loader(file: Path) -> _Loader:
    text = _text(file)
    try:
        return _Loader(text)
    except yaml.reader.ReaderError as error:
        way_out = f"holds the character U+{error.character:04X}; remove it"
        raise _refused(file, _mark(text, error.position), way_out) from None


def _text(file: Path) -> str:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise InvalidManifest("file", str(file), f"cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST_FILE:
        raise InvalidManifest("file", str(file), f"is longer than {LARGEST_FILE} bytes; split it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = _mark(raw.decode("utf-8", "replace"), len(raw[: error.start].decode("utf-8")))
        raise _refused(file, mark, "is not UTF-8; save the file as UTF-8") from None


def _nodes(loader: _Loader) -> Iterator[yaml.Node]:
    while loader.check_node():
        node = loader.get_node()
        if node is not None:
            yield node


def _value(loader: _Loader, node: yaml.Node, file: Path) -> Any:
    _measure(node, file, {})
    try:
        return loader.construct_document(node)
    except (ValueError, LookupError, AttributeError):
        raise _refused(file, node.start_mark, "holds a value that does not fit its tag; remove the tag") from None


@dataclass(frozen=True, slots=True)
class _Measure:
    values: int
    depth: int


def _measure(node: yaml.Node, file: Path, seen: dict[int, _Measure | None]) -> _Measure:
    """How large a node is when its aliases are written out. Raises InvalidManifest for what is refused on the way."""
    if id(node) in seen:
        known = seen[id(node)]
        if known is None:
            raise _refused(file, node.start_mark, "contains itself by an alias; write it out")
        return known
    seen[id(node)] = None
    _check_node(node, file)
    parts = [_measure(part, file, seen) for part in _parts(node)]
    measure = _Measure(1 + sum(part.values for part in parts), 1 + max((part.depth for part in parts), default=0))
    if measure.depth > DEEPEST:
        raise _refused(file, node.start_mark, TOO_DEEP)
    if measure.values > MOST_VALUES:
        raise _refused(file, node.start_mark, f"holds more than {MOST_VALUES} values; split it")
    seen[id(node)] = measure
    return measure


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_node(node: yaml.Node, file: Path) -> None:
    if node.tag not in PLAIN_TAGS:
        raise _refused(file, node.start_mark, f"has the tag {node.tag}, which is not obeyed here; remove it")
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, file)


def _check_keys(node: yaml.MappingNode, file: Path) -> None:
    keys: set[str] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise _refused(file, key.start_mark, "has a key that is not text; put it in quotes")
        if key.value in keys:
            raise _refused(file, key.start_mark, f"has the key {key.value!r} for the second time; keep one")
        keys.add(key.value)


def _found(node: yaml.Node, place: Place) -> yaml.Node:
    for step in place:
        following = _step(node, step)
        if following is None:
            return node
        node = following
    return node


def _step(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        part = node.value[step]
        return part if isinstance(part, yaml.Node) else None
    return None


def _mark(text: str, position: int) -> yaml.Mark:
    start = text.rfind("\n", 0, position) + 1
    return yaml.Mark("", position, text.count("\n", 0, position), position - start, text, position)


def _where(error: yaml.MarkedYAMLError, loader: _Loader) -> yaml.Mark:
    """Where the error was found; where what is not closed begins, if it was found at the end."""
    found, begun = error.problem_mark, error.context_mark
    at_the_end = found is not None and begun is not None and not _text_at(found)
    return (begun if at_the_end else found) or loader.get_mark()


def _text_at(mark: yaml.Mark) -> str:
    """The line that holds a mark; of a long one, what is near the mark."""
    text, position = mark.buffer or "", mark.pointer
    line = text[text.rfind("\n", 0, position) + 1 :].partition("\n")[0]
    return line[max(mark.column - NEAR, 0) :].rstrip("\0\r ")


def _refused(file: Path, mark: yaml.Mark, way_out: str) -> InvalidManifest:
    return InvalidManifest(
        f"{file}, line {mark.line + 1}, column {mark.column + 1}", _text_at(mark) or "the end of the file", way_out
    )
