"""Parameters: every scalar is read as text (docs/contract.md, "One id or a list")."""

import pytest

from notpanel.api.errors import MalformedBody, MissingParameter
from notpanel.api.parameters import OneOrMany, Parameters

IDS = OneOrMany("order", "orders", single="Single-order ID", batch=".")


@pytest.mark.parametrize(
    ("value", "text"), [(" x ", "x"), (7, "7"), (1.5, "1.5"), (True, "true"), (False, "false"), (None, ""), ("", "")]
)
def test_a_scalar_is_text(value, text):
    assert Parameters([("name", value)]).text("name") == text


@pytest.mark.parametrize("value", [{}, [], ["x"], {"a": 1}, b"x"])
def test_anything_else_is_malformed(value):
    with pytest.raises(MalformedBody):
        Parameters([("name", value)]).text("name")


@pytest.mark.parametrize("value", ["1, two ,,3", ["1", " two ", "", None, 3], [1, "two", " ", 3]])
def test_a_list_is_its_items_without_blanks(value):
    assert Parameters([("orders", value)]).ids("orders") == ["1", "two", "3"]


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, "order"),
        ({"order": ""}, "order"),
        ({"orders": None}, "order"),
        ({"orders": ""}, "orders"),
        ({"orders": []}, "orders"),
        ({"order": " ", "orders": ","}, "orders"),
    ],
)
def test_the_error_names_the_parameter_that_came_empty(body, missing):
    with pytest.raises(MissingParameter, match=f": {missing}$"):
        IDS.read(Parameters(body.items()))
