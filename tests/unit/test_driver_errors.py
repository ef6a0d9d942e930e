"""What a driver's errors mean."""

import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError

from fibflow.errors import DatabaseDamaged
from fibflow.store.driver_errors import explained


def test_a_statement_that_is_too_big_damages_no_file():
    with sqlite3.connect(":memory:") as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10)
        with pytest.raises(sqlite3.DataError) as refused:
            connection.execute("SELECT ?", ["x" * 100])
    error = DataError("SELECT ?", {}, refused.value)
    assert not isinstance(explained(error, False, sa.make_url("sqlite:///t.db")), DatabaseDamaged)
