"""What is said of an error in a line."""

import asyncio
import traceback

import pytest

from fibflow.errors import gist


def plain():
    raise ValueError("wrong")


def of_several_lines():
    raise ValueError("wrong\nfor more see the manual")


def noted():
    error = ValueError("wrong")
    error.add_note("when it was called")
    raise error


def followed_by_another():
    try:
        plain()
    except ValueError as error:
        raise KeyError("worse") from error


async def _several():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(plain))


def in_a_group():
    asyncio.run(_several())


def a_group_without_tracebacks():
    raise ExceptionGroup("many", [ValueError("one"), ValueError("two")])


def below_a_group():
    try:
        in_a_group()
    except ExceptionGroup as error:
        raise KeyError("worse") from error


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        (plain, "ValueError: wrong"),
        (of_several_lines, "ValueError: wrong"),
        (noted, "ValueError: wrong"),
        (followed_by_another, "KeyError: 'worse'"),
        (in_a_group, "ValueError: wrong"),
        (a_group_without_tracebacks, "ExceptionGroup: many (2 sub-exceptions)"),
        (below_a_group, "KeyError: 'worse'"),
    ],
)
def test_the_gist_of_a_traceback_is_the_line_below_its_frames(failing, expected):
    with pytest.raises(Exception) as caught:
        failing()
    assert gist("".join(traceback.format_exception(caught.value))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("timed out after 5 s", "timed out after 5 s"),
        ("the head\n... 9 bytes left out ...\nValueError: the tail", "ValueError: the tail"),
        ("Traceback (most recent call last):\n", "Traceback (most recent call last):"),
        ("Traceback (most recent call last):\n  File ...\n... 9 bytes left out ...\nValueError: wrong", "ValueError: wrong"),
    ],
)
def test_the_gist_of_another_text_is_its_last_line(text, expected):
    assert gist(text) == expected
