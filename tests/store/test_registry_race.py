"""What is said of a task type by code and by a resource at once: neither is lost."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fibflow.model import Options
from fibflow.store import tasktypes
from fibflow.store.database import Session
from fibflow.store.tasktypes import Declaration, declare_types, type_named
from fix_database import wait_for_a_lock

OF_CODE = Declaration("work", Options(timeout=120, max_attempts=9))
OF_THE_RESOURCE = Declaration("work", Options(timeout=30, max_attempts=2))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_code_that_declares_a_type_while_a_resource_does_leaves_the_resource_in_force(database):
    database.call(declare_types, [Declaration("work")])
    with database.engine.connect() as syncing, ThreadPoolExecutor(1) as pool:
        declare_types(Session(syncing), [OF_THE_RESOURCE], source="resource")
        declaring = pool.submit(database.call, declare_types, [OF_CODE])
        wait_for_a_lock(database, "%fibflow.task_type%")
        syncing.commit()
        declaring.result()
    found = database.call(type_named, "work")
    assert (found.options.timeout, found.options.max_attempts, found.source) == (30, 2, "resource")


def test_a_declaration_that_says_nothing_new_locks_nothing(database, monkeypatch):
    database.call(declare_types, [OF_CODE])
    monkeypatch.setattr(tasktypes, "update_type", None)
    assert list(database.call(declare_types, [OF_CODE])) == ["work"]
