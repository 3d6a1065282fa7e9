"""A refusal's text, with its figures, and its code for programs."""

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from notpanel.kit.refusals import Refusal


class TooManyHTTPWishes(Refusal):
    message = "Too many {what} ({limit} at most)"
    example = {"what": "wishes", "limit": 3}


def test_the_text_has_the_figures_that_the_refusal_was_raised_with():
    refusal = TooManyHTTPWishes(what="stars", limit=5)

    assert refusal.text == str(refusal) == "Too many stars (5 at most)"


def test_a_time_is_written_in_and_with_the_current_time_zone():
    class Taken(Refusal):
        message = "taken at {at}"

    with timezone.override("Europe/Berlin"):
        refusal = Taken(at=datetime(2026, 11, 25, 8, 14, 59, tzinfo=UTC))

    assert refusal.text == "taken at 2026-11-25 09:14 CET"


def test_a_missing_figure_is_a_key_error():
    with pytest.raises(KeyError):
        TooManyHTTPWishes(what="stars")


def test_the_documentation_shows_its_example():
    assert TooManyHTTPWishes.example_text() == "Too many wishes (3 at most)"
    assert TooManyHTTPWishes.example_text(what="stars") == "Too many stars (3 at most)"


def test_the_code_is_the_class_name_in_snake_case():
    class OrderNotFound(Refusal):
        message = "Order not found"

    assert OrderNotFound.code() == "order_not_found"
