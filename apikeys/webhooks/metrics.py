"""The metrics of webhooks for Prometheus: what processes count, and figures that are read from the database."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count, Q
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from apikeys.models import WebhookDelivery, WebhookEndpoint
from apikeys.webhooks.leasing import Result, next_due
from notpanel.kit import metrics

# A delivery that waits after an attempt is tried again.
OUTCOMES = {"delivered": "delivered", "waiting": "put_off", "failed": "failed"}
BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)  # seconds

ATTEMPTS = metrics.counter(
    "notpanel_webhook_attempts",
    "Attempts to deliver webhooks: delivered, put off until the next attempt, or failed for good.",
    outcome=tuple(OUTCOMES.values()),
)
SECONDS = metrics.histogram(
    "notpanel_webhook_attempt_duration_seconds",
    "Seconds until a customer's server answered, or did not.",
    BUCKETS,
    outcome=tuple(OUTCOMES.values()),
)


def count(result: Result) -> None:
    """Count an attempt."""
    outcome = OUTCOMES[result.state]
    ATTEMPTS.labels(outcome).inc()
    SECONDS.labels(outcome).observe(result.milliseconds / 1000)


def read(now: datetime) -> Iterator[Metric]:
    """Yield what waits, by three statements; the index of what is due serves those on deliveries."""
    waiting = WebhookDelivery.objects.filter(state=WebhookDelivery.State.WAITING).count()
    yield GaugeMetricFamily("notpanel_webhooks_waiting", "Deliveries that have not been made yet.", value=waiting)
    due = next_due()
    overdue = now - due if due and due < now else None
    yield metrics.age("notpanel_webhooks_overdue_seconds", "Seconds that the oldest delivery has been due.", overdue)

    endpoints = GaugeMetricFamily("notpanel_webhook_endpoints", "Endpoints of customers.", labels=["state"])
    found = {"active": 0, "failing": 0, "paused": 0, "off": 0}
    live = WebhookEndpoint.objects.exclude(state=WebhookEndpoint.State.REMOVED)
    is_failing = Q(state=WebhookEndpoint.State.ACTIVE, failing_since__isnull=False)
    rows = live.order_by().values_list("state").annotate(count=Count("pk"), failing=Count("pk", filter=is_failing))
    for state, count, failing in rows:
        found[state] = count - failing
        found["failing"] += failing
    for state, number in found.items():
        endpoints.add_metric([state], number)
    yield endpoints
