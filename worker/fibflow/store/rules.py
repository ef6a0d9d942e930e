"""How the rule by which workers are scaled is stored: as JSON, whose only reader is whoever leads the operators."""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import Any

from fibflow import encoding
from fibflow.scaling import Policy, Rule


def written(rule: Rule | None) -> str | None:
    """As a row holds it."""
    return None if rule is None else encoding.encode(asdict(rule), "scaling")


def read(text: str | None) -> Rule | None:
    """From a row; None where there is none, or one that other code has written and this does not understand."""
    try:
        said: Any = encoding.decode(text)
        rule = None if said is None else Rule(**{**said, "policy": Policy(said["policy"])})
    except (TypeError, ValueError, KeyError):
        return None
    return rule if rule is None or all(isinstance(number, int | float) for number in astuple(rule)[1:]) else None
