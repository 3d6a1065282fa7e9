"""The rules of a refill, each by itself, and what the desk shows of them."""

from datetime import UTC, datetime, timedelta

import pytest

from orders.models import OrderStatus
from refills.requesting import LockedOrder, LockedTerms
from refills.rules import RULES, Case, PeriodIsOpen, Tally, judge

NOW = datetime(2026, 5, 31, 12, tzinfo=UTC)


def case(
    status="completed", *, completed_ago=timedelta(days=1), refill=True, days=None, limit=None, in_flight=0, used=0
):
    completed_at = None if completed_ago is None else NOW - completed_ago
    order = LockedOrder("ord_1", 1, 1, status, completed_at, None, LockedTerms(refill, days, limit))
    return Case(order, Tally(in_flight, used), NOW)


VIOLATIONS = [
    ({"status": "pending", "completed_ago": None}, "Refill only available for completed or partial orders"),
    ({"refill": False}, "Service does not support refills"),
    ({"days": 30, "completed_ago": timedelta(days=31)}, "Refill period has expired (30 days)"),
    ({"in_flight": 1}, "A refill request is already pending for this order"),
    ({"used": 3}, "Refill limit reached (3 per order)"),
]


def test_an_order_that_keeps_every_rule_is_not_refused():
    assert judge(*case()) is None


@pytest.mark.parametrize(("rule", "violation"), zip(RULES, VIOLATIONS, strict=True))
def test_each_rule_refuses_alone_and_with_its_own_text(rule, violation):
    facts, text = violation

    violated = [each for each in RULES if each.is_violated(case(**facts))]

    assert violated == [rule]
    assert judge(*case(**facts)).text == text


@pytest.mark.parametrize("first", range(len(RULES)))
def test_the_first_rule_that_is_violated_refuses(first):
    facts = {}
    for more, _ in reversed(VIOLATIONS[first:]):
        facts |= more
    if first == 0:
        facts["completed_ago"] = None

    assert judge(*case(**facts)).text == VIOLATIONS[first][1]


@pytest.mark.parametrize("status", OrderStatus.values)
def test_only_delivered_orders_are_refilled(status):
    assert RULES[0].is_violated(case(status)) == (status not in ("completed", "partial"))


@pytest.mark.parametrize(
    ("completed_ago", "days", "violated"),
    [
        (timedelta(days=30), 30, False),
        (timedelta(days=30, microseconds=1), 30, True),
        (timedelta(days=3000), None, False),
        (None, 30, False),
    ],
)
def test_a_period_ends_after_its_last_moment(completed_ago, days, violated):
    assert PeriodIsOpen().is_violated(case(completed_ago=completed_ago, days=days)) == violated


@pytest.mark.parametrize(("limit", "used", "refused"), [(None, 2, False), (None, 3, True), (1, 0, False), (1, 1, True)])
def test_the_cap_is_the_services_own_or_the_setting(limit, used, refused):
    assert (judge(*case(limit=limit, used=used)) is not None) == refused


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({}, ["the order is completed", "refill=true", "completed 24 h ago, the period has no end"]),
        (
            {"status": "in_progress", "completed_ago": None, "refill": False, "days": 30},
            ["the order is in_progress", "refill=false", "not completed, the period is 30 days"],
        ),
        (
            {"status": "cancelled", "completed_ago": None, "days": 30},
            ["the order is cancelled", "refill=true", "not completed, the period is 30 days"],
        ),
    ],
)
def test_the_desk_shows_what_was_judged(facts, shown):
    assert [rule.shown(case(**facts)) for rule in RULES][:3] == shown


def test_the_desk_shows_the_figures_of_the_other_refills():
    assert [rule.shown(case(in_flight=1, used=2, limit=4)) for rule in RULES][3:] == [
        "1 in flight",
        "2 of 4 used",
    ]


def test_each_label_says_what_holds_while_the_rule_is_kept():
    assert [rule.label for rule in RULES] == [
        "Order is delivered",
        "Service refills",
        "Refill period is open",
        "No other refill is in flight",
        "Cap is not reached",
    ]
