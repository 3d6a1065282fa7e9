"""The components that pages share: page titles, navigation links, tables and times."""

from datetime import datetime
from html import unescape
from typing import Any

from django import template
from django.template.context import Context
from django.template.loader import render_to_string
from django.template.loader_tags import BLOCK_CONTEXT_KEY
from django.urls import reverse
from django.utils.html import format_html, strip_tags

from notpanel.kit.times import time_and_zone

register = template.Library()


@register.simple_tag(takes_context=True)
def page_title(context: Context) -> str:
    """Return the text of the block ``heading``, so that a page states its ``<h1>`` and its ``<title>`` once.

    Django renders a block where it is defined only; this renders it a second time.
    """
    heading = context.render_context[BLOCK_CONTEXT_KEY].get_block("heading")
    return unescape(strip_tags(heading.render(context))).strip()


@register.inclusion_tag("components/nav_link.html", takes_context=True)
def nav_link(context: Context, label: str, view: str, *args: Any, section: bool = False) -> dict[str, Any]:
    """Link to a view, marked as current on its own page; with ``section`` on all pages below it as well."""
    url, path = reverse(view, args=args), context["request"].path
    return {"label": label, "url": url, "is_current": path.startswith(url) if section else path == url}


@register.inclusion_tag("components/table_head.html")
def table_head(*columns: str) -> dict[str, Any]:
    """Render the head of a table."""
    return {"columns": columns}


@register.simple_block_tag
def scrolling_table(content: str, caption: str, *columns: str) -> str:
    """Wrap rows into a table that scrolls sideways by itself, by touch and by keyboard."""
    context = {"rows": content, "caption": caption, "columns": columns}
    return render_to_string("components/scrolling_table.html", context)


@register.filter
def words(name: str) -> str:
    """Write the name of a status for people: ``in_progress`` becomes ``in progress``."""
    return name.replace("_", " ")


@register.filter(expects_localtime=True)
def time_tag(at: datetime | None) -> str:
    """Render a time to the minute, or nothing for None: ``{{ key.expires_at|time_tag|default:"never" }}``.

    The time zone follows it. The pages for customers hide the zone: they say once that all times are in UTC.
    """
    if not at:
        return ""
    html = '<time datetime="{}" title="{}">{} <span class="time-zone">{}</span></time>'
    return format_html(html, at.isoformat(), at.tzinfo, *time_and_zone(at))
