"""The components that pages share, and the form of the templates."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.template import Context, Template, engines
from django.test import RequestFactory
from django.utils import timezone


def render(source, path="/", **context):
    template = Template("{% load components %}" + source)
    return template.render(Context({"request": RequestFactory().get(path)} | context))


@pytest.mark.parametrize(
    "path", sorted((settings.BASE_DIR / "templates").rglob("*.*")), ids=lambda path: "/".join(path.parts[-2:])
)
def test_no_line_of_a_template_is_longer_than_120_characters(path):
    # djlint breaks tags, but not prose or values of attributes. A long list of the theme's classes becomes one
    # class of admin.css.
    lines = enumerate(path.read_text().splitlines(), 1)

    assert [number for number, line in lines if len(line) > 120] == []


@pytest.mark.parametrize("base", ["base.html", "developers/base.html", "plain.html"])
def test_a_page_states_its_title_once(base):
    source = '{% extends "' + base + '" %}{% block heading %}Key <code>{{ name }}</code>{% endblock %}'

    page = engines["django"].from_string(source).render({"name": "a<b & c"}, RequestFactory().get("/"))

    assert "<title>Key a&lt;b &amp; c · NotPanel</title>" in page
    assert "Key <code>a&lt;b &amp; c</code>" in page


@pytest.mark.parametrize(
    ("path", "own_page", "section"),
    [("/dashboard/orders/", True, True), ("/dashboard/orders/list/", False, True), ("/dashboard/", False, False)],
)
def test_a_navigation_link_marks_the_current_page(path, own_page, section):
    source = '{% nav_link "Orders" "dashboard:orders" section=below %}'

    assert ('aria-current="page"' in render(source, path, below=False)) == own_page
    assert ('aria-current="page"' in render(source, path, below=True)) == section


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", '2026-05-01 12:34 <span class="time-zone">UTC</span>'),
        ("Europe/Berlin", '2026-05-01 14:34 <span class="time-zone">CEST</span>'),
        ("Asia/Dubai", '2026-05-01 16:34 <span class="time-zone">UTC+04</span>'),
    ],
)
def test_a_time_is_shown_to_the_minute_with_its_time_zone(zone, shown):
    at = datetime(2026, 5, 1, 12, 34, 56, tzinfo=UTC)

    with timezone.override(zone):
        tag = render('{{ at|time_tag|default:"never" }}', at=at)

    assert tag == f'<time datetime="{at.astimezone(ZoneInfo(zone)).isoformat()}" title="{zone}">{shown}</time>'


def test_no_time_is_shown_as_the_default():
    assert render('{{ at|time_tag|default:"never" }}', at=None) == "never"


def test_a_table_that_scrolls_has_a_name_and_escapes_it():
    table = render('{% scrolling_table name "A" %}<tr><td>{{ name }}</td></tr>{% endscrolling_table %}', name="a<b")

    assert 'role="region" aria-label="a&lt;b" tabindex="0"' in table
    assert '<th scope="col">A</th>' in table
    assert "<tr><td>a&lt;b</td></tr>" in table
