"""The figures on the admin's start page."""

from typing import Any

from django.core.cache import cache
from django.utils import timezone

from apikeys.requests import SignedInRequest
from refills.statistics import statistics

KEPT_FOR = 60  # seconds


def add_statistics(request: SignedInRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the figures to the start page of staff who may see refills. Unfold's DASHBOARD_CALLBACK calls this."""
    if request.user.has_perm("refills.view_refill"):
        now = timezone.now()
        # Over a month of a large panel the figures take seconds, so they are kept.
        kept = cache.get("refills.statistics")
        as_of, found = kept or (now, statistics(now))
        if not kept:
            cache.set("refills.statistics", (as_of, found), timeout=KEPT_FOR)
        context["statistics"], context["as_of"] = found, as_of
        context["busiest_day"] = max(count for _, count in found.requests_per_day) or 1
    return context
