"""The colour of a status: the same in the desk's list and on a refill's page."""

import re

import pytest
from django.template import Context, Template
from django.urls import reverse

from refills.colours import STATUS_COLOURS, TIMELINESS_COLOURS
from refills.models import Refill
from tests import factories


def test_each_status_has_a_colour():
    assert list(STATUS_COLOURS) == [value for value, _ in Refill._meta.get_field("status").choices]


@pytest.mark.parametrize("status", STATUS_COLOURS)
def test_the_list_and_the_page_show_the_same_badge(client, staff, status):
    client.force_login(staff)
    refill = factories.Refill(status=status)

    found = client.get(reverse("admin:refills_refill_changelist"), {"status": status}).content.decode()
    page = client.get(reverse("admin:refills_refill_change", args=[refill.pk])).content.decode()

    assert badge(found, status) == badge(page, status)


def test_late_is_red_and_due_soon_is_not():
    assert TIMELINESS_COLOURS["late"] == STATUS_COLOURS["rejected"] == "danger"
    assert TIMELINESS_COLOURS["due soon"] == "warning"


@pytest.mark.parametrize(("refusal", "text"), [(None, "passed"), ("Refill limit reached", "failed")])
def test_a_rule_that_refuses_is_shown_as_failed(refusal, text):
    shown = Template("{% load badges %}{% rule_badge refusal %}").render(Context({"refusal": refusal}))

    assert text in shown
    assert ("bg-red-100" in shown) == (text == "failed")


def badge(page, text):
    """Return the classes of the badge with a text."""
    [classes] = re.findall(rf'<span class="(inline-block [^"]*)"[^>]*>\s*{text}\s*</span>', page, re.IGNORECASE)
    return classes.split()
