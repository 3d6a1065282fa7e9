"""The desk's badges, as the admin theme draws them in its lists."""

from django import template

from refills.colours import RULE_COLOURS, STATUS_COLOURS
from refills.models import Refill

register = template.Library()


@register.inclusion_tag("unfold/helpers/label.html")
def refill_badge(refill: Refill) -> dict[str, str]:
    """Show the status of a refill in its colour."""
    return {"text": refill.get_status_display(), "type": STATUS_COLOURS[refill.status]}


@register.inclusion_tag("unfold/helpers/label.html")
def rule_badge(refusal: str | None) -> dict[str, str]:
    """Show whether a refill passed a rule: it failed if there is a refusal."""
    outcome = "failed" if refusal else "passed"
    return {"text": outcome, "type": RULE_COLOURS[outcome]}
