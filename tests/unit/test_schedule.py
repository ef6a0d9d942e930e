"""Schedules, against an oracle of our own: it walks days, hours, minutes and seconds, and asks each field a question.

The oracle reads the text itself and shares nothing with the code under test, so it finds faults of our grammar and of
the search below it alike. Random schedules come from hypothesis; what a user would look up stands as an example.
"""

import calendar
import pickle
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fibflow.schedule import SECOND, InvalidSchedule, Schedule

# --- the oracle -----------------------------------------------------------------------------------------------------

BOUNDS = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
NAMES = dict(zip(WEEKDAYS, range(7), strict=True)) | dict(zip(MONTHS, range(1, 13), strict=True))


def number(text: str) -> int:
    return NAMES[text.upper()] if text.upper() in NAMES else int(text)


def admits(column: int, field: str, value: int) -> bool:
    plain = [item for item in field.split(",") if not (column in (3, 5) and item.upper().endswith("L"))]
    return any(item_admits(*BOUNDS[column], item, value) for item in plain)


def item_admits(low: int, high: int, item: str, value: int) -> bool:
    """Start at the item's first value and step round the cycle until its end is reached: is `value` met?"""
    span, _, step = item.partition("/")
    first, last = low, high
    if span != "*" and not (high == 6 and span.upper() in ("0-7", "SUN-7")):
        first, last = (number(end) for end in (span.split("-") if "-" in span else (span, span)))
        last = high if step and "-" not in span else last
        first, last = (low if end > high else end for end in (first, last))
    met, walked = first, 0
    while True:
        if walked % int(step or 1) == 0 and met == value:
            return True
        if met == last:
            return False
        met, walked = (low if met == high else met + 1), walked + 1


def day_matcher(fields: list[str]) -> Callable[[datetime], bool]:
    months, days, weekdays = ([value for value in range(32) if admits(column, fields[column], value)] for column in (4, 3, 5))
    last_day = "L" in fields[3].upper().split(",")
    last_weekdays = [number(item[:-1]) % 7 for item in fields[5].split(",") if item.upper().endswith("L")]
    both_restrict = all({"*", "*/1"}.isdisjoint(fields[column].split(",")) for column in (3, 5))

    def matches(day: datetime) -> bool:
        if day.month not in months:
            return False
        length, weekday = calendar.monthrange(day.year, day.month)[1], day.isoweekday() % 7
        by_day = day.day in days or (last_day and day.day == length)
        by_weekday = weekday in weekdays or (weekday in last_weekdays and day.day > length - 7)
        return by_day or by_weekday if both_restrict else by_day and by_weekday

    return matches


def walk(text: str, start: datetime, direction: int) -> Iterator[datetime]:
    """All instants within nine years strictly after (direction 1) or before (-1) `start`, in that direction."""
    fields = text.split() if len(text.split()) == 6 else ["0", *text.split()]
    seconds, minutes, hours = (
        [value for value in range(BOUNDS[column][1] + 1) if admits(column, fields[column], value)][::direction]
        for column in range(3)
    )
    matches = day_matcher(fields)
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (midnight + timedelta(days=direction * passed) for passed in range(9 * 366)):
        for hour, minute, second in product(hours, minutes, seconds) if matches(day) else ():
            instant = day.replace(hour=hour, minute=minute, second=second)
            if (instant - start) * direction > timedelta(0):
                yield instant


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def at(text: str) -> int:
    return micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def following(text: str, start: str, count: int) -> list[str]:
    instants = Schedule.parse(text).between(at(start), at("2199-01-01"), count)
    return [datetime.fromtimestamp(instant / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S") for instant in instants]


# --- random schedules -----------------------------------------------------------------------------------------------


def items(column: int) -> st.SearchStrategy[str]:
    low, high = BOUNDS[column]
    value = st.integers(low, 7 if column == 5 else high).map(str)
    if column >= 4:
        names = st.sampled_from(MONTHS if column == 4 else WEEKDAYS)
        value |= names | names.map(str.lower)
    span = st.tuples(value, value).map("-".join)
    step = st.integers(1, high - low + 1).map(lambda size: f"/{size}")
    last = {3: [st.sampled_from("Ll")], 5: [value.map(lambda day: day + "L")]}.get(column, [])
    return st.one_of(value, span, st.tuples(st.just("*") | value | span, step).map("".join), *last)


def fields(column: int) -> st.SearchStrategy[str]:
    return st.just("*") | st.lists(items(column), min_size=1, max_size=3).map(",".join)


schedules = st.tuples(*map(fields, range(6))).map(" ".join) | st.tuples(*map(fields, range(1, 6))).map(" ".join)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2110, 1, 1), timezones=st.just(UTC)) | st.sampled_from(
    [
        datetime(year, month, day, hour, minute, second, micro, UTC)
        for year in (1999, 2000, 2023, 2024, 2096, 2100)
        for month, day in ((1, 1), (2, 28), (3, 1), (12, 31))
        for hour, minute, second, micro in ((0, 0, 0, 0), (23, 59, 59, 0), (23, 59, 59, 999_999))
    ]
)


def parsed(text: str) -> Schedule | None:
    try:
        return Schedule.parse(text)
    except InvalidSchedule as refusal:
        assert "can never fire" in str(refusal)
        return None


@settings(deadline=None, max_examples=200)
@given(schedules, moments)
def test_the_next_instants_are_those_a_walk_finds(text, start):
    schedule = parsed(text)
    expected = [micros(instant) for instant in islice(walk(text, start, 1), 4)]
    if schedule is None:
        assert expected == []
        return
    assert schedule.next_after(micros(start)) == expected[0]
    assert schedule.between(micros(start), expected[-1], 5) == expected


@example("* * * 2-31,L * *", datetime(1999, 1, 1, tzinfo=UTC))
@example("0 0 * * 0L,1L,2L,3L,4L,5L,6L", datetime(1999, 1, 1, tzinfo=UTC))
@settings(deadline=None, max_examples=200)
@given(schedules, moments)
def test_the_latest_instant_is_the_one_a_walk_back_finds(text, start):
    schedule = parsed(text)
    if schedule is None:
        return
    expected = micros(next(walk(text, start + timedelta(microseconds=1), -1)))
    assert schedule.latest_at_or_before(micros(start), -micros(start)) == expected
    assert schedule.latest_at_or_before(micros(start), expected) is None


@settings(deadline=None, max_examples=200)
@given(schedules, moments)
def test_next_and_latest_agree(text, start):
    schedule = parsed(text)
    if schedule is None:
        return
    instant = micros(start)
    due = schedule.next_after(instant)
    assert due > instant
    assert due % SECOND == 0
    assert schedule.next_after(due) > due
    assert schedule.next_after(due - 1) == due
    assert schedule.latest_at_or_before(due, instant) == due
    assert schedule.latest_at_or_before(due - 1, instant) is None
    assert schedule.latest_at_or_before(schedule.next_after(due) - 1, instant) == due
    assert schedule.between(instant, due - 1, 5) == []
    assert schedule.between(instant, due, 5) == [due]


# --- what a user would look up --------------------------------------------------------------------------------------


def test_five_fields_begin_with_the_minute_and_fire_at_second_zero():
    assert following("15 3 * * *", "2024-02-28 03:15:00", 2) == ["2024-02-29 03:15:00", "2024-03-01 03:15:00"]


def test_six_fields_begin_with_the_second():
    assert following("30 15 3 * * *", "2024-01-01", 1) == ["2024-01-01 03:15:30"]
    assert following("*/20 * * * * *", "2024-01-01 00:00:19.5", 3) == [
        "2024-01-01 00:00:20",
        "2024-01-01 00:00:40",
        "2024-01-01 00:01:00",
    ]


@pytest.mark.parametrize(
    ("macro", "text"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        (" @Annually ", "0 0 1 1 *"),
    ],
)
def test_a_macro_is_its_expression(macro, text):
    assert Schedule.parse(macro).rules == Schedule.parse(text).rules


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun", "7-7", "0,7", "SUN-SUN"])
def test_sunday_is_zero_and_seven(sunday):
    assert following(f"0 0 * * {sunday}", "2024-02-01", 2) == ["2024-02-04 00:00:00", "2024-02-11 00:00:00"]


@pytest.mark.parametrize("weekend", ["5-7", "FRI-SUN", "fri-0", "5,6,7", "5-7/1"])
def test_a_range_of_weekdays_may_end_on_sunday(weekend):
    assert [day[8:10] for day in following(f"0 0 * * {weekend}", "2024-02-01", 4)] == ["02", "03", "04", "09"]


def test_a_start_with_a_step_runs_to_the_end_of_the_field():
    assert [instant[14:16] for instant in following("5/15 0 * * *", "2024-01-01", 4)] == ["05", "20", "35", "50"]
    assert [instant[14:] for instant in following("59/15 * * * *", "2024-01-01", 1)] == ["59:00"]


def test_a_range_may_wrap_and_its_step_goes_on_across_the_wrap():
    assert [instant[11:13] for instant in following("0 21-3/2 * * *", "2024-01-01", 4)] == ["01", "03", "21", "23"]
    assert [instant[5:7] for instant in following("0 0 1 11-2/3 *", "2024-01-01", 3)] == ["02", "11", "02"]


def test_a_range_from_a_value_to_itself_is_that_value():
    assert following("0 5-5 * * *", "2024-01-01", 2) == ["2024-01-01 05:00:00", "2024-01-02 05:00:00"]


def test_l_is_the_last_day_of_each_month():
    assert [day[:10] for day in following("0 0 L * *", "2023-01-31", 14)] == [
        *("2023-02-28", "2023-03-31", "2023-04-30", "2023-05-31", "2023-06-30", "2023-07-31", "2023-08-31"),
        *("2023-09-30", "2023-10-31", "2023-11-30", "2023-12-31", "2024-01-31", "2024-02-29", "2024-03-31"),
    ]


def test_l_stands_in_a_list_of_days():
    assert [day[5:10] for day in following("0 0 L,15 2 *", "2023-01-01", 4)] == ["02-15", "02-28", "02-15", "02-29"]


@pytest.mark.parametrize("last_friday", ["5L", "5l", "FRIL", "friL"])
def test_5l_is_the_last_friday_of_each_month(last_friday):
    assert [day[:10] for day in following(f"0 0 * * {last_friday}", "2024-01-01", 4)] == [
        *("2024-01-26", "2024-02-23", "2024-03-29", "2024-04-26"),
    ]


def test_a_last_weekday_stands_in_a_list_of_weekdays():
    assert [day[8:10] for day in following("0 0 * * 5L,MON,7L", "2024-01-01", 6)] == [
        "08",
        "15",
        "22",
        "26",
        "28",
        "29",
    ]


def test_day_of_month_or_day_of_week_suffices_when_both_restrict():
    assert [day[8:10] for day in following("0 0 13 * FRI", "2024-02-01", 6)] == ["02", "09", "13", "16", "23", "01"]
    assert [day[5:10] for day in following("0 0 1 * 5L", "2024-01-01", 3)] == ["01-26", "02-01", "02-23"]


def test_only_a_bare_star_leaves_the_other_day_field_alone():
    assert [day[8:10] for day in following("0 0 */1 * MON", "2024-02-01", 2)] == ["05", "12"]
    assert [day[8:10] for day in following("0 0 1-31 * MON", "2024-02-01", 2)] == ["02", "03"]
    assert [day[8:10] for day in following("0 0 */10 * MON", "2024-02-01", 3)] == ["05", "11", "12"]


def test_a_day_that_never_comes_leaves_the_other_day_field_alone():
    assert [day[5:10] for day in following("0 0 31 2 MON", "2024-01-01", 2)] == ["02-05", "02-12"]


def test_the_29th_of_february_is_found_across_a_century_without_one():
    assert [day[:10] for day in following("0 0 29 2 *", "2092-01-01", 3)] == ["2092-02-29", "2096-02-29", "2104-02-29"]
    before = Schedule.parse("0 0 29 2 *").latest_at_or_before(at("2104-02-28"), 0)
    assert before == at("2096-02-29")


def test_the_29th_is_found_backwards_in_a_leap_year():
    assert Schedule.parse("0 0 29 * *").latest_at_or_before(at("2024-03-15"), 0) == at("2024-02-29")


def test_between_stops_at_the_limit_and_at_the_end():
    schedule = Schedule.parse("* * * * *")
    start = at("2024-01-01 00:00:00")
    assert schedule.between(start, start + 3 * 60 * SECOND, 2) == [start + 60 * SECOND, start + 120 * SECOND]
    assert schedule.between(start, start + 2 * 60 * SECOND, 9) == [start + 60 * SECOND, start + 120 * SECOND]
    assert schedule.between(start, start, 9) == []
    assert schedule.between(start, start - 1, 9) == []
    assert schedule.between(start, start + 60 * SECOND, 0) == []


def test_an_instant_outside_the_calendar_is_refused():
    schedule = Schedule.parse("0 0 29 2 *")
    for instant in (-1, at("9990-01-01")):
        with pytest.raises(ValueError, match="1970 to 9989"):
            schedule.next_after(instant)
    assert schedule.next_after(at("9990-01-01") - 1) == at("9992-02-29")


def test_a_schedule_is_a_value():
    schedule = Schedule.parse("0 0 * * 5L")
    assert schedule is Schedule.parse("0 0 * * 5L")
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert len({schedule, Schedule.parse("0 0 * * 4L")}) == 2
    with pytest.raises(AttributeError):
        setattr(schedule, "text", "* * * * *")  # noqa: B010 - mypy would refuse the assignment, as it should


def test_searches_of_one_schedule_do_not_disturb_each_other():
    schedule = Schedule.parse("*/7 3 1,L * 5L,MON")
    early, late = at("2024-01-01"), at("2030-01-01")
    apart = [schedule.between(start, at("2199-01-01"), 50) for start in (early, late)]
    both = zip(schedule._following(early), schedule._following(late), strict=True)
    assert list(islice(both, 50)) == list(zip(*apart, strict=True))


# --- refusals -------------------------------------------------------------------------------------------------------

REFUSALS = [
    ("", "has 0 fields: write five"),
    ("   ", "has 0 fields"),
    ("* * * *", "has 4 fields"),
    ("* * * * * * 2030", "has 7 fields.*there is no year"),
    ("0 " * 400, "has 400 fields"),
    ("*" * 100_000, "has 100000 characters: write at most 1000"),
    ("9" * 900 + " * * * *", "minute '999.*write 0 to 59"),
    ("\0 * * * *", r"holds '\\x00'"),
    ("0 0 * * *\0", r"holds '\\x00'"),
    ("٣ * * * *", r"holds '\\u0663'"),
    ("0\u00a00 * * *", r"holds '\\xa0'"),
    ("60 * * * *", "minute '60' is refused: write 0 to 59"),
    ("60 * * * * *", "second '60'"),
    ("* 24 * * *", "hour '24' is refused: write 0 to 23"),
    ("* * 0 * *", "day of month '0' is refused: write 1 to 31"),
    ("* * 32 * *", "day of month '32'"),
    ("* * 0/10 * *", "day of month '0/10'"),
    ("* * * 0 *", "month '0' is refused: write 1 to 12 or JAN"),
    ("* * * 13 *", "month '13'"),
    ("* * * * 8", "day of week '8' is refused: write 0 to 7 or SUN"),
    ("* * * * 8L", "day of week '8L'"),
    ("5-70 * * * *", "minute '5-70' is refused: write 0 to 59"),
    ("*/0 * * * *", r"minute '\*/0' is refused: write a step of 1 to 60"),
    ("5-5/0 * * * *", "write a step of 1 to 60"),
    ("*/61 * * * *", "write a step of 1 to 60"),
    ("* */25 * * *", "write a step of 1 to 24"),
    ("* * 15W * *", "W .* write the days out"),
    ("* * LW * *", "W .* write the days out"),
    ("* * ? * *", r"write \*"),
    ("* * * * 5#2", "5L for the last one"),
    ("H * * * *", "write a number"),
    ("H/5 * * * *", "write a number"),
    ("H(0-5) * * * *", "write a number"),
    ("R * * * *", "write a number"),
    ("* * * * L", "5L the last Friday"),
    ("* * * * L5", "5L the last Friday"),
    ("* * * * 1-5L", "neither in a range"),
    ("* * L-3 * *", "neither in a range"),
    ("* * 1-L * *", "neither in a range"),
    ("* L * * *", "L is the last day in day of month"),
    ("@reboot", "is no macro: write one of @yearly"),
    ("@every 5m", "is no macro"),
    ("1,,2 * * * *", "minute '' is refused"),
    (",1 * * * *", "minute ''"),
    ("-1 * * * *", "minute '-1'"),
    ("+1 * * * *", r"minute '\+1'"),
    ("1- * * * *", "minute '1-'"),
    ("1-2-3 * * * *", "minute '1-2-3'"),
    ("*-5 * * * *", r"minute '\*-5'"),
    ("*/2/3 * * * *", r"minute '\*/2/3'"),
    ("*/ * * * *", r"minute '\*/'"),
    ("*/* * * * *", r"minute '\*/\*'"),
    ("1.5 * * * *", "minute '1.5'"),
    ("MON * * * *", "minute 'MON' is refused: write 0 to 59"),
    ("* * * MON *", "month 'MON'"),
    ("* * * * JAN", "day of week 'JAN'"),
    ("* * * * MONDAY", "day of week 'MONDAY'"),
]


@pytest.mark.parametrize(("text", "says"), REFUSALS, ids=[ascii(text)[:30] for text, _ in REFUSALS])
def test_a_text_that_is_not_cron_is_refused_with_a_way_out(text, says):
    with pytest.raises(InvalidSchedule, match=says) as refusal:
        Schedule.parse(text)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("thing", [None, 5, ["* * * * *"], {"minute": 5}])
def test_what_is_not_text_is_refused(thing):
    with pytest.raises(InvalidSchedule, match="a schedule is a text"):
        Schedule.parse(thing)


@pytest.mark.parametrize(
    "text", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30-31 FEB *", "*/5 * * 31 4 *", "0 0 31 2/9 *", "0 0 30/1 2 */1"]
)
def test_a_schedule_that_can_never_fire_is_refused_at_once(text):
    began = time.perf_counter()
    with pytest.raises(InvalidSchedule, match="can never fire: day of month 3"):
        Schedule.parse(text)
    assert time.perf_counter() - began < 0.05


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=40) | st.text("0123456789*/-,LW#?HRMONJAN@ \t", max_size=30))
def test_any_text_is_a_schedule_or_an_invalid_schedule(text):
    try:
        schedule = Schedule.parse(text)
    except InvalidSchedule:
        return
    assert schedule.next_after(at("2024-01-01")) > at("2024-01-01")
