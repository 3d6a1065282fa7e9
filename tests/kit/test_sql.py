"""SQL that is written out is prepared by psycopg, and readable where statements are logged."""

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils.connection import ConnectionDoesNotExist

from notpanel.kit import sql


def test_rows_come_back_in_python_types(db):
    assert sql.fetch("SELECT %(n)s::int + 1, %(t)s::text UNION ALL SELECT 0, ''", {"n": 1, "t": "é"}) == [
        (2, "é"),
        (0, ""),
    ]


def test_parameters_travel_apart_from_the_statement(db):
    [(statement,)] = sql.fetch(
        "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND %(x)s = 42", {"x": 42}
    )

    assert "$1 = 42" in statement


def test_a_logged_statement_shows_its_parameters(db):
    with CaptureQueriesContext(connection) as queries:
        assert sql.fetch("SELECT %(secret)s::text", {"secret": "shown"}) == [("shown",)]

    assert [query["sql"] for query in queries] == ["SELECT 'shown'::text"]


def test_execute_takes_a_statement_without_rows(db):
    sql.execute("SELECT set_config('application_name', %(name)s, false)", {"name": "kit"})

    assert sql.fetch("SHOW application_name", {}) == [("kit",)]


def test_errors_are_those_of_django(db):
    with pytest.raises(DatabaseError, match="division by zero"):
        sql.fetch("SELECT 1 / 0", {})


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_closed_is_opened():
    connection.close()

    assert sql.fetch("SELECT 1", {}) == [(1,)]


def test_the_database_is_the_one_that_was_asked_for(db):
    with pytest.raises(ConnectionDoesNotExist):
        sql.fetch("SELECT 1", {}, using="elsewhere")
