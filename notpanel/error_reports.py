"""Errors of the server, sent to Sentry or to a service that speaks its protocol, if SENTRY_DSN is set.

A report has what is needed to find the bug, and nothing that people sent: no body, header, query string, address,
user or local variable. The request's id leads to its line in the log.
"""

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration, ignore_logger
from sentry_sdk.integrations.threading import ThreadingIntegration

from notpanel.api.exceptions import as_refusal
from notpanel.kit import request_facts
from notpanel.kit.refusals import ServiceUnavailable
from notpanel.logs import clean

# The members of an event that are sent: the client's own, and those with text, from which secrets are removed.
_OWN = {
    *("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "server_name"),
    *("sdk", "modules", "contexts", "tags"),
}
_TEXTS = {"message", "logentry", "exception", "breadcrumbs", "transaction", "threads"}


def start(dsn: str, **options: Any) -> None:
    """Send errors from now on. ``options`` are more of sentry_sdk's."""
    sentry_sdk.init(
        dsn,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            DjangoIntegration(transaction_style="function_name", middleware_spans=False, signals_spans=False),
            LoggingIntegration(),
            ExcepthookIntegration(),
            ThreadingIntegration(),
            DedupeIntegration(),
            AtexitIntegration(callback=lambda pending, timeout: None),
        ],
        send_default_pii=False,
        max_request_body_size="never",
        # The name of a local variable does not say what it holds, so no list of names would do.
        include_local_variables=False,
        before_send=_without_what_people_sent,
        **options,
    )
    for logger in ("notpanel.request_log", "notpanel.security"):
        ignore_logger(logger)


def _without_what_people_sent(event: Any, hint: dict[str, Any]) -> Any:
    facts = request_facts.current()
    exception = hint["exc_info"][1] if hint.get("exc_info") else None
    if facts and isinstance(exception, Exception) and isinstance(as_refusal(exception), ServiceUnavailable):
        return None  # an outage, not a bug: each request in it would be reported
    if facts:
        event.setdefault("tags", {})["request_id"] = facts.request_id
    own = {name: value for name, value in event.items() if name in _OWN}
    return own | {name: clean(value) for name, value in event.items() if name in _TEXTS}
