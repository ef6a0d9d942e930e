"""What may enter the database: JSON, text, bytes and errors, checked and bounded. Pure.

A value that does not pass raises InvalidInput, which names the field, the value and the way out. PostgreSQL's text takes
no NUL and UTF-8 has no lone surrogates, so neither gets in, on SQLite either.
"""

from __future__ import annotations

import json
import math
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import orjson
from pydantic import BaseModel

from fibflow.errors import LONGEST_DURATION as LONGEST_DURATION
from fibflow.errors import InvalidInput
from fibflow.model import MAX_ERROR, MAX_JSON, Json, Options

SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
LONGEST_TEXT = 4096
DEEPEST = 254
"""Levels of a JSON value; orjson writes no more."""


def encode(value: Json, field: str) -> str:
    """JSON text of a value, at most 1 MiB. Refuses what is not JSON, NaN and infinity, NUL, lone surrogates."""
    try:
        text = orjson.dumps(value, default=_of_model)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(field, value, _not_json(error, "use dicts with text keys, lists, text, numbers")) from None
    if len(text) > MAX_JSON:
        raise InvalidInput(
            field, f"{len(text)} bytes", f"is longer than {MAX_JSON} bytes; store it elsewhere and pass a reference"
        )
    if b"null" in text:
        _refuse_nan(value, field)
    if rb"\u0000" in text:
        _refuse_nul(value, orjson.loads(text), field)
    return text.decode()


def _of_model(value: object) -> Json:
    """What a pydantic model is as JSON; orjson asks about what it does not know itself."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def _refuse_nan(value: Json, field: str) -> None:
    """orjson writes NaN and infinity as null; JSON has neither."""
    try:
        json.dumps(value, allow_nan=False, default=_within)
    except ValueError:
        raise InvalidInput(field, value, "holds NaN or infinity, which JSON has not; use null or text") from None


def _within(value: object) -> object:
    """What orjson sees of a value that the standard library's encoder does not take."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return value.value if isinstance(value, Enum) else str(value)


def _refuse_nul(value: Json, written: Json, field: str) -> None:
    if any("\x00" in text for text in _texts(written)):
        raise InvalidInput(field, value, "holds a NUL character; remove it")


def _texts(value: Json) -> list[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _texts(part)]
    return []


def parse(text: str | bytes, field: str) -> Json:
    """The value of JSON text from a person, whole numbers as they stand. Raises InvalidInput."""
    try:
        orjson.loads(text)  # which takes only what JSON has, but rounds what is beyond 64 bits
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(field, text, _not_json(error, 'write it as {"name": "value"}')) from None


def _not_json(error: Exception, way_out: str) -> str:
    if "ecursion" in str(error) or "depth limit" in str(error):
        return f"is nested deeper than {DEEPEST} levels; make it flatter"
    return f"is not JSON ({error}); {way_out}"


def decode(text: str | None) -> Json:
    """The value of stored JSON text."""
    return None if text is None else orjson.loads(text)


def text(value: object, field: str, *, longest: int = LONGEST_TEXT) -> str:
    """Text that is not empty and that a database can hold."""
    if not isinstance(value, str):
        raise InvalidInput(field, value, "is not text")
    if not value.strip():
        raise InvalidInput(field, value, "is empty; give it a value")
    if len(value) > longest:
        raise InvalidInput(field, value, f"is longer than {longest} characters")
    if clean(value) != value:
        raise InvalidInput(field, value, "holds a NUL or a lone surrogate; remove it")
    return value


def optional_text(value: object, field: str, *, longest: int = LONGEST_TEXT) -> str | None:
    """Text, or None."""
    return None if value is None else text(value, field, longest=longest)


def trimmed(value: object, field: str, *, longest: int = LONGEST_TEXT) -> str:
    """Text that a handler or a person tells, without the blanks around it."""
    return text(value, field, longest=longest).strip()


def snake_case(value: object, field: str) -> str:
    """A code or a stage's name: lowercase snake_case."""
    name = trimmed(value, field, longest=128)
    if not SNAKE_CASE.fullmatch(name):
        raise InvalidInput(field, value, "is not lowercase snake_case, such as payload_validated")
    return name


def metadata(value: object, field: str = "metadata") -> str | None:
    """JSON text of an object, or None."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInput(field, value, "is not an object; give a dict")
    return encode(dict(value), field)


def context(value: object, field: str = "context") -> bytes | None:
    """Bytes that a task carries to its next stage, at most 1 MiB; None for none."""
    if value is None:
        return None
    if not isinstance(value, bytes | bytearray | memoryview):
        raise InvalidInput(field, value, "is not bytes; encode it")
    if len(value) > MAX_JSON:
        raise InvalidInput(field, f"{len(value)} bytes", f"is longer than {MAX_JSON} bytes")
    return bytes(value)


def clean(value: str) -> str:
    """Text without NUL and lone surrogates."""
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def error_text(error: BaseException | str) -> str:
    """An error with its whole traceback, cleaned, at most 64 KiB: the head and the tail of a longer one."""
    whole = clean(error if isinstance(error, str) else "".join(traceback.format_exception(error)))
    raw = whole.encode()
    if len(raw) <= MAX_ERROR:
        return whole
    half = MAX_ERROR // 2 - 32
    left_out = len(raw) - 2 * half
    return f"{raw[:half].decode(errors='ignore')}\n... {left_out} bytes left out ...\n{raw[-half:].decode(errors='ignore')}"


def named_options(given: Mapping[str, Any]) -> Options:
    """Options by their names. Raises InvalidInput for one that is none."""
    names = [each.name for each in fields(Options)]
    if unknown := sorted(set(given) - set(names)):
        raise InvalidInput("options", unknown, f"are no options; known: {', '.join(names)}")
    return Options(**given)


def several(value: Any, field: str) -> Sequence[Any]:
    """A list or a tuple."""
    if not isinstance(value, list | tuple):
        raise InvalidInput(field, value, "is not a list")
    return value


def number(value: object, field: str, lowest: float, highest: float, *, whole: bool = False) -> Any:
    """A number within bounds; `whole` for an integer."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidInput(field, value, f"is not {'a whole number' if whole else 'a number'} {_between(lowest, highest)}")
    if not lowest <= value <= highest:
        raise InvalidInput(field, value, f"is not {_between(lowest, highest)}")
    return value


def _between(*bounds: float) -> str:
    return "between {} and {}".format(*(f"{bound:,}".removesuffix(".0") for bound in bounds))


def aware(value: object, field: str) -> datetime:
    """A moment with a time zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput(field, value, "is not a datetime with a time zone; use datetime.now(UTC)")
    return value


OPTION_BOUNDS: dict[str, tuple[float, float, bool]] = {
    "timeout": (0.001, LONGEST_DURATION, False),
    "max_attempts": (1, 1_000_000, True),
    "backoff": (0, LONGEST_DURATION, False),
    "backoff_factor": (1, 1000, False),
    "max_backoff": (0, LONGEST_DURATION, False),
    "priority": (-20, 20, True),
}


def check_options(options: Options) -> Options:
    """The same options. Raises InvalidInput for one that is out of bounds, and for what is something else."""
    if not isinstance(options, Options):
        raise InvalidInput("options", options, "is not Options; write Options(timeout=30)")
    for name, (lowest, highest, whole) in OPTION_BOUNDS.items():
        value = getattr(options, name)
        if value is not None:
            number(value, name, lowest, highest, whole=whole)
    return options
