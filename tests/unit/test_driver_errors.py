"""What a driver's errors mean."""

import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, OperationalError

from fibflow.errors import DatabaseDamaged, DatabaseUnavailable, sentence
from fibflow.store.driver_errors import explained


def test_a_statement_that_is_too_big_damages_no_file():
    with sqlite3.connect(":memory:") as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10)
        with pytest.raises(sqlite3.DataError) as refused:
            connection.execute("SELECT ?", ["x" * 100])
    error = DataError("SELECT ?", {}, refused.value)
    assert not isinstance(explained(error, False, sa.make_url("sqlite:///t.db")), DatabaseDamaged)


def test_a_file_that_another_program_holds_is_named():
    error = OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))
    assert str(explained(error, False, sa.make_url("sqlite:///t.db"))) == "sqlite:///t.db is not available: database is locked"


@pytest.mark.parametrize(
    ("fault", "way_out"),
    [
        ("connection refused", "start it"),
        ('FATAL: password authentication failed for user "shop"', "correct the user and the password in its URL"),
        ("fe_sendauth: no password supplied", "correct the user and the password in its URL"),
        ('FATAL: role "shop" does not exist', "create it, or correct its URL"),
        ("database is locked", "wait until the program that holds it has ended"),
        ("database or disk is full", "make room"),
        ("attempt to write a readonly database", "see to it that this user may write the file and its folder"),
        ("unable to open database file", "see to it that this user may write the file and its folder"),
    ],
)
def test_the_way_out_is_that_of_the_fault(fault, way_out):
    said = sentence(DatabaseUnavailable(f"it is not available: {fault}"))
    assert said == f"database: it is not available: {fault}; {way_out}, or name another with --database"
