"""Count requests for Prometheus: by what was asked, by what came of it, and how long it took."""

from django.http import HttpRequest, HttpResponse

from notpanel import request_log
from notpanel.kit import metrics

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
FAILED = ("internal_server_error", "service_unavailable")  # codes; to some dialects, both are answered with 200
OTHER = "other"

# The first part of a page's name in the URLs, and what the metrics call it.
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


def count(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
    """Count a request that is answered."""
    action, code = _action(request), response.headers.get("X-Error-Code", "")
    REQUESTS.labels(action, _outcome(response.status_code, code), code or str(response.status_code)).inc()
    SECONDS.labels(action).observe(seconds)
    if layer := response.headers.get("X-RateLimit-DeniedBy"):
        LIMITED.labels(layer).inc()


def count_unread(status: int, code: str) -> None:
    """Count a request that the server refused before the application saw it."""
    REQUESTS.labels(OTHER, _outcome(status, code), code).inc()


def _action(request: HttpRequest) -> str:
    """Return the action of a request, else what part of the site it is for. Only names that we gave."""
    if action := request_log.action():
        return action
    match = request.resolver_match
    if match is None:
        return "static" if request.path_info.startswith("/static/") else OTHER
    if match.namespaces:
        return _AREAS.get(match.namespaces[0], OTHER)
    name = match.url_name or ""
    return name if name.startswith("panel-") else OTHER


def _outcome(status: int, code: str) -> str:
    if status >= 500 or code in FAILED:
        return "failed"
    if status == 429:
        return "limited"
    return "refused" if code or status >= 400 else "answered"
