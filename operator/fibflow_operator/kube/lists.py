"""Whole lists of the API server, page by page: each is complete, or an error.

A list that is refused, cut or forgotten half-way is never told as a shorter one, nor is an answer that is no list, as a
proxy before the server may give it: what is missing from a list counts as gone. What is in the items is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fibflow_operator.kube.api import Api, understood

PAGE = "500"
"""Objects in one answer."""


class Page(NamedTuple):
    """A part of a list, as of the list's version."""

    version: int
    items: list[Mapping[str, Any]]


def pages(api: Api, path: str, chosen: Mapping[str, str]) -> Iterator[Page]:
    """The list of the objects at a path that a query chooses. Raises ApiFailure; what came before is to be forgotten then."""
    query, following = {**chosen, "limit": PAGE}, ""
    while True:
        raw = api.call("GET", path, {**query, "continue": following} if following else query)
        with understood(path):
            page, following = _page(raw), raw["metadata"].get("continue") or ""
        yield page
        if not following:
            return


def _page(raw: Mapping[str, Any]) -> Page:
    items = raw["items"]
    if items is not None and not isinstance(items, list):
        raise TypeError("items: is no list")
    return Page(int(raw["metadata"]["resourceVersion"]), items or [])
