"""The tables of docs/contract.md agree with the code, row for row."""

import re
from pathlib import Path

import pytest

from apikeys.models import Account
from notpanel.api.errors import (
    SHARED_ERRORS,
    ApiError,
    InvalidRequestId,
    KeyIsReadOnly,
    NotFound,
    SeveralGiven,
    status_of,
)
from notpanel.api.openapi import HEADERS_OF, RATE_LIMIT_HEADERS
from notpanel.api.parameters import LARGEST_BATCH
from notpanel.api.view import LARGEST_BODY
from notpanel.kit.public_id import LONGEST
from notpanel.urls import ACTIONS
from orders.models import DELIVERED, OrderStatus
from refills.rules import REFUSALS
from refills.statuses import IN_FLIGHT, SETTLED, RefillStatus

BASE_DIR = Path(__file__).resolve().parent.parent.parent
SECTIONS = dict(re.findall(r"^##+ (.+)\n((?:(?!##).*\n)*)", (BASE_DIR / "docs/contract.md").read_text(), re.M))
OF_SINGLE_ACTIONS = (SeveralGiven, InvalidRequestId, KeyIsReadOnly)
SHARED = "Errors that every action shares"
OF_ERRORS = [SHARED, *(f"action={action.name}" for action in ACTIONS)]


def rows(section, *columns):
    """Return the rows of the section's table with these columns, as cells without backquotes; [] if it has none."""
    header = "| " + " | ".join(columns) + " |\n"
    _, _, table = SECTIONS[section].partition(header)
    lines = re.match(r"(?:\|.*\n)*", table)[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def errors_in(section):
    return [(int(status), text, code) for status, text, code, _ in rows(section, "status", "body", "code", "cause")]


def as_written(error):
    return status_of(error), error.example_text(name="<name>"), error.code()


def classes_below(base):
    for error in base.__subclasses__():
        if not error.__module__.startswith("tests."):
            yield error
            yield from classes_below(error)


def test_the_shared_errors_are_those_of_the_code():
    assert set(errors_in(SHARED)) == {
        as_written(error) for error in {*classes_below(ApiError), *SHARED_ERRORS}.difference(OF_SINGLE_ACTIONS)
    }


def test_every_error_but_four_is_shared_by_the_actions():
    """An unknown address has no action, and the others are about parameters that a single action has."""
    assert set(classes_below(ApiError)) - set(SHARED_ERRORS) == {NotFound, *OF_SINGLE_ACTIONS}


def test_no_error_is_listed_twice_in_a_table():
    for section in OF_ERRORS:
        assert len(errors_in(section)) == len(set(errors_in(section))), section


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_an_action_lists_its_own_errors_in_their_order(action):
    own = [as_written(error) for error in action.errors if error not in SHARED_ERRORS]

    assert errors_in(f"action={action.name}") == own


def test_a_refill_is_refused_in_the_order_of_the_page():
    assert errors_in("action=refill")[: len(REFUSALS)] == [as_written(error) for error in REFUSALS]


def test_every_action_has_a_section():
    assert [name.removeprefix("action=") for name in SECTIONS if name.startswith("action=")] == [
        action.name for action in ACTIONS
    ]


def test_the_order_statuses():
    assert rows("Order statuses", "order status", "may be refilled") == [
        [status, "yes" if status in DELIVERED else "no"] for status in OrderStatus.values
    ]


def test_the_refill_statuses():
    listed = [(status, state) for status, state, _ in rows("Refill statuses", "refill status", "state", "meaning")]

    assert listed == [(status, "in flight" if status in IN_FLIGHT else "settled") for status in RefillStatus.values]
    assert set(RefillStatus.values) == {*IN_FLIGHT, *SETTLED}


def test_the_limits():
    assert dict(rows("Limits", "limit", "figure")) == {
        "body": f"{LARGEST_BODY // 1024} KiB",
        "ids in a batch": str(LARGEST_BATCH),
        "characters of an id": str(LONGEST),
    }
    assert LARGEST_BODY % 1024 == 0


def test_the_headers_of_the_rate_limits():
    listed = [header for header, _ in rows("Rate limits", "header", "what it says")]

    assert listed == list(RATE_LIMIT_HEADERS)
    assert all(f"`{header}`" in SECTIONS["Rate limits"] for header in HEADERS_OF[429])


def test_the_rate_limits():
    """Compares with .env.example, which tests/notpanel/test_settings.py compares with the code."""
    defaults = re.findall(r"^(RATE_LIMIT_\w+)=(.*)$", (BASE_DIR / ".env.example").read_text(), re.M)
    listed = rows("Rate limits", "layer", "requests a minute", "setting", "counted on")

    assert [(setting, limit) for _, limit, setting, _ in listed] == defaults
    assert [layer for layer, *_ in listed] == [
        "ip",
        *(f"{layer}: {tier}" for layer in ("key", "tier") for tier in Account.Tier.values),
    ]
