"""How an attempt ends: what a handler is given, what it returns or raises, and what is stored of it."""

from scripted_app import app as scripted


def test_a_returned_value_becomes_the_result(workplace):
    workplace.start(scripted)
    assert workplace.outcome("scripted", {"do": "ok", "n": 3}).result == {"n": 3}
