"""The handlers of the page on handlers do what it says of them."""

import importlib
import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from fibflow import Child, Status
from fix_semantics import until

PAGE = Path(__file__).parents[2] / "docs" / "handlers.md"


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The application of the page, as a module that a process can import."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("of_the_page").app
    del sys.modules["of_the_page"]


def test_the_handlers_of_the_page_do_what_it_says(app, workplace):
    workplace.start(app)
    client = workplace.client
    wrong = workplace.outcome("fetch", {"url": "ftp://a"})
    assert (wrong.status, wrong.failures) == (Status.PERMANENTLY_FAILED, 1)
    busy = workplace.outcome("fetch", {"url": "https://a", "tries_left": 1})
    assert (busy.status, workplace.outcomes(busy.id)) == (Status.COMPLETED, ["failed", "completed"])

    task_id = client.enqueue("report", {"urls": ["https://a", "ftp://b", "https://c"]})
    until(lambda: client.tasks(suspend_reason="approval").items)
    assert [each.status for each in client.subtree(task_id).tasks].count(Status.PERMANENTLY_FAILED) == 1
    client.resume(task_id)
    report = workplace.ended(task_id)
    assert (report.status, report.result, report.stage) == (Status.COMPLETED, 2048, 3)


def test_the_page_names_what_a_parent_sees_of_a_child():
    (told,) = re.findall(r"`ctx\.children` in the order of their ids: (.*?)\.", PAGE.read_text(), re.DOTALL)
    assert re.findall(r"`(\w+)`", told) == [each.name for each in fields(Child)]
