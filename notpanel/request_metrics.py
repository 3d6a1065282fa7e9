"""Count requests for Prometheus: by what was asked, by what came of it, and how long it took."""

import functools

from notpanel.kit import metrics
from notpanel.kit.request_facts import Outcome, RequestFacts

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
OTHER = "other"

# The first part of the name that a page has in the URLs, and what the metrics call it.
_AREAS = {"admin": "desk", "dashboard": "dashboard", "developers": "developers"}

REQUESTS = metrics.counter(
    "notpanel_requests",
    "Requests that were answered. code is that of the error, else the HTTP status.",
    action=(),
    outcome=(),
    code=(),
)
SECONDS = metrics.histogram(
    "notpanel_request_duration_seconds", "Seconds from reading a request to its answer.", BUCKETS, action=()
)
LIMITED = metrics.counter(
    "notpanel_rate_limited", "Requests that a layer of the rate limits refused.", layer=("ip", "key", "tier", "panel")
)
# Looking a series up by its labels takes longer than counting.
_requests, _seconds = functools.cache(REQUESTS.labels), functools.cache(SECONDS.labels)


def count(facts: RequestFacts) -> None:
    """Count a request that is answered."""
    action = facts.action or _area(facts)
    _requests(action, facts.outcome.value, facts.code or str(facts.status)).inc()
    _seconds(action).observe(facts.milliseconds / 1000)
    if facts.limited_by:
        LIMITED.labels(facts.limited_by).inc()


def count_unread(code: str) -> None:
    """Count a request that the server refused before the application saw it."""
    REQUESTS.labels(OTHER, Outcome.REFUSED.value, code).inc()


def _area(facts: RequestFacts) -> str:
    """Return the part of the site that a request is for. All of these names are ours."""
    if facts.view.startswith("panel-"):
        return facts.view
    if facts.path.startswith("/static/"):
        return "static"
    return _AREAS.get(facts.view.partition(":")[0], OTHER)
