"""What a cron text says: the grammar, and its refusals.

For `schedule.Schedule`, which computes instants from what comes out here. It knows no instant, clock or time zone.

    second minute hour day-of-month month day-of-week        (five fields: without the second, which is then 0)

An item of a field's comma list is `*`, `v` or `v-w`, each optionally with `/step`; `v/step` runs from v to the end of
the field (`5/15` in the minute: 5, 20, 35, 50). A range may wrap (`22-2`, `FRI-SUN`, `NOV-FEB`), and a step goes on
across the wrap. `v-v` is v alone. Sunday is 0 and 7; `5-7` is Friday to Sunday. `L` is the last day of the month, `5L`
or `FRIL` its last Friday; both may stand in a list, but not in a range. Case does not matter.

Day of month and day of week: if both restrict, a day matches when **either** does (Vixie cron, POSIX). A field
restricts unless it holds a bare `*` (or `*/1`), so `*/2` and `1-31` restrict. Vixie reads `*/2` as a star and then
demands both; here it is a list like any other.

The text comes out as rules whose union is the schedule. A rule is an expression of croniter's: second last, lists of
plain numbers or `*`, and one day field at most that is not `*`. Nothing else may reach croniter 7.0, because there

- `5-5` means the whole week, hour or year; a step in a wrapping range drops or moves values (`11-2/3`: no February);
- `L` counts as one more day: `2-31,L` are 31 of them, which is taken for every day;
- the last Friday is `L5`, not `5L`; beside a plain weekday it is refused, beside a day of month both must match;
- `*/61` is silently `0`; `?`, `15W`, `5#2`, `R` and a year are accepted, `R` as a random value per construction;
- a schedule that never fires is valid, and found out by the first search, as an exception.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fibflow.errors import InvalidInput

Tokens = frozenset[str]

LONGEST_TEXT = 1000
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class InvalidSchedule(InvalidInput):
    """A schedule that is not cron, or can never fire. The message names the field, the value and a way out."""

    def __init__(self, message: str) -> None:
        super(InvalidInput, self).__init__(message)
        self.field = "schedule"


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a cron text. `highest` may be written, though the cycle ends at `last` (7 is Sunday)."""

    name: str
    first: int
    last: int
    highest: int
    names: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return self.last - self.first + 1


def _numbered(names: str, start: int) -> dict[str, int]:
    return {name: number for number, name in enumerate(names.split(), start)}


SECOND = Field("second", 0, 59, 59)
MINUTE = Field("minute", 0, 59, 59)
HOUR = Field("hour", 0, 23, 23)
DAY = Field("day of month", 1, 31, 31)
MONTH = Field("month", 1, 12, 12, _numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1))
WEEKDAY = Field("day of week", 0, 6, 7, _numbered("SUN MON TUE WED THU FRI SAT", 0))
FIELDS = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY)

_ITEM = re.compile(r"(?:\*|(?P<low>[0-9A-Z]+)(?:-(?P<high>[0-9A-Z]+))?)(?:/(?P<step>[0-9]+))?")
_LAST_WEEKDAY = re.compile(r"([0-9A-Z]+)L")
_SUPPORTED = "write *, a value, a range or a list of them, such as 1,5-10,*/15"
_ELSEWHERE = {
    r"\?": "? means nothing here, write *",
    r"#": "# (the n-th weekday of the month) is not supported, write 5 for every Friday, 5L for the last one",
    r"^L?[0-9]*W[0-9]*$": "W (the nearest weekday) is not supported, write the days out",
    r"^[HR]([^A-Z]|$)": "H and R (hashed values) are not supported, write a number",
    r"^L|[0-9-]L": "L is the last day in day of month, 5L the last Friday in day of week, neither in a range",
}
_LONGEST_MONTH = {"2": 29, "4": 30, "6": 30, "9": 30, "11": 30}
_ANY, _LAST = frozenset({"*"}), frozenset({"L"})


def rules(text: str) -> tuple[str, ...]:
    """The expressions for croniter whose union `text` is. Raises `InvalidSchedule`."""
    second, minute, hour, day, month, weekday = (
        _admitted(column, written) for column, written in zip(FIELDS, _columns(text), strict=True)
    )
    found = [(minute, hour, days, month, weekdays, second) for days, weekdays in _day_rules(day, month, weekday)]
    if not found:
        raise InvalidSchedule(
            f"schedule {_shown(text)} can never fire: day of month {_list(day)} does not come in month {_list(month)}; "
            "correct one of the two, or write L for the last day of the month"
        )
    return tuple(" ".join(_list(tokens) for tokens in rule) for rule in found)


def _day_rules(day: Tokens, month: Tokens, weekday: Tokens) -> list[tuple[Tokens, Tokens]]:
    """Either day field where both restrict; none of the rules restricts both, and each fires some day."""
    if day == weekday == _ANY:
        return [(_ANY, _ANY)]
    last_weekdays = frozenset(token for token in weekday if token.startswith("L"))
    days = (day - _LAST - _ANY, day & _LAST)
    rules = [(tokens, _ANY) for tokens in days if tokens and _ever_comes(tokens, month)]
    rules += [(_ANY, tokens) for tokens in (weekday - last_weekdays - _ANY, last_weekdays) if tokens]
    return rules


def _ever_comes(day: Tokens, month: Tokens) -> bool:
    return "L" in day or min(map(int, day)) <= max(_LONGEST_MONTH.get(token, 31) for token in month)


def _columns(text: str) -> list[str]:
    """The six fields of a text, in upper case: a macro written out, a missing second added."""
    if len(text) > LONGEST_TEXT:
        raise InvalidSchedule(f"schedule {_shown(text)} has {len(text)} characters: write at most {LONGEST_TEXT}")
    if strange := re.search(r"[^!-~ \t\r\n]", text):
        raise InvalidSchedule(f"schedule {_shown(text)} holds {strange[0]!a}: write plain ASCII and spaces")
    columns = _written_out(text).upper().split()
    if len(columns) not in (5, 6):
        raise InvalidSchedule(
            f"schedule {_shown(text)} has {len(columns)} fields: write five (minute, hour, day of month, month, "
            "day of week) or six with the second first; there is no year"
        )
    return columns if len(columns) == 6 else ["0", *columns]


def _written_out(text: str) -> str:
    if not text.lstrip().startswith("@"):
        return text
    if expression := MACROS.get(text.strip().lower()):
        return expression
    raise InvalidSchedule(f"schedule {_shown(text)} is no macro: write one of {', '.join(MACROS)}")


def _admitted(column: Field, written: str) -> Tokens:
    """The tokens a field admits, as croniter reads them: numbers, L, L5; or `*` alone if it does not restrict."""
    tokens = frozenset().union(*(_item(column, item) for item in written.split(",")))
    return _ANY if "*" in tokens else tokens


def _item(column: Field, item: str) -> Tokens:
    if column is DAY and item == "L":
        return frozenset({"L"})
    if column is WEEKDAY and (last := _LAST_WEEKDAY.fullmatch(item)):
        return frozenset({f"L{_value(column, item, last[1]) % 7}"})
    parts = _ITEM.fullmatch(item)
    if parts is None:
        raise _refused(column, item, _SUPPORTED)
    step = _step(column, item, parts["step"])
    if parts["low"] is None:
        return _ANY if step == 1 else _cycle(column, column.first, column.last, step)
    low = _value(column, item, parts["low"])
    if parts["high"] is not None:
        return _cycle(column, low, _value(column, item, parts["high"]), step)
    return _cycle(column, low, low if parts["step"] is None else column.last, step)


def _cycle(column: Field, low: int, high: int, step: int) -> Tokens:
    """Every step-th value from low to high, going round the end of the field when high lies before low."""
    end = high if high >= low else high + column.size
    return frozenset(str((value - column.first) % column.size + column.first) for value in range(low, end + 1, step))


def _value(column: Field, item: str, written: str) -> int:
    value = int(written) if written.isdigit() else column.names.get(written)
    if value is None or not column.first <= value <= column.highest:
        names = f" or {', '.join(column.names)}" if column.names else ""
        raise _refused(column, item, f"write {column.first} to {column.highest}{names}")
    return value


def _step(column: Field, item: str, written: str | None) -> int:
    step = 1 if written is None else int(written)
    if not 1 <= step <= column.size:
        raise _refused(column, item, f"write a step of 1 to {column.size}")
    return step


def _refused(column: Field, item: str, way_out: str) -> InvalidSchedule:
    known = (explained for sign, explained in _ELSEWHERE.items() if re.search(sign, item))
    return InvalidSchedule(f"{column.name} {_shown(item)} is refused: {next(known, way_out)}")


def _list(tokens: Tokens) -> str:
    return ",".join(sorted(tokens, key=lambda token: (len(token), token)))


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:77] + "...")
