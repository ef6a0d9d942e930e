"""A stored rule that is not understood is none, and stops nobody."""

import pytest

from fibflow.scaling import Rule
from fibflow.store import rules


@pytest.mark.parametrize("text", ["no JSON", "[1]", "7", "{}", '{"policy": "Never"}', '{"policy": "Fixed", "slots": "x"}'])
def test_what_other_code_has_written_is_no_rule(text):
    assert rules.read(text) is None


def test_a_rule_comes_back_as_it_was_written():
    assert rules.read(rules.written(Rule(replicas=3))) == Rule(replicas=3)
    assert rules.read(rules.written(None)) is None
