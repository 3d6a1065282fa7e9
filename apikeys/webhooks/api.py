"""The actions webhook.add, webhook.list and webhook.remove: parse, call, shape."""

from typing import Any

from apikeys.models import WebhookEndpoint
from apikeys.refusals import (
    InvalidWebhookUrl,
    UnknownWebhookEvent,
    WebhookExists,
    WebhookLimitReached,
    WebhookNotFound,
)
from apikeys.webhooks.endpoints import LARGEST_NUMBER, add_endpoint, endpoints_of, remove_endpoint
from apikeys.webhooks.models import EVENTS
from notpanel.api.actions import Action, Example
from notpanel.api.examples import WEBHOOK as EXAMPLE_WEBHOOK
from notpanel.api.parameters import Parameter, Parameters
from notpanel.api.schemas import Schema, record, text
from notpanel.kit.caller import Caller

URL = Parameter("url", "string", "Where to post the events: https://, at port 443 or a port from 1024 on.")
EVENTS_WANTED = Parameter("events", "string (CSV)", f"Which events: {', '.join(EVENTS)}. All of them if left out.")
WEBHOOK = Parameter("webhook", "string", "The ID of the webhook.")


def add(caller: Caller, parameters: Parameters) -> Any:
    url, events = parameters.required(URL.name), parameters.ids(EVENTS_WANTED.name)
    endpoint, secret = add_endpoint(caller.account_id, url, events, api_key=caller.api_key_prefix)
    return _shape(endpoint) | {"secret": secret}


def list_all(caller: Caller, parameters: Parameters) -> Any:
    return [_shape(endpoint) for endpoint in endpoints_of(caller.account_id)]


def remove(caller: Caller, parameters: Parameters) -> Any:
    endpoint = remove_endpoint(caller.account_id, parameters.required(WEBHOOK.name), api_key=caller.api_key_prefix)
    return {"webhook": endpoint.pk, "status": endpoint.state}


def _shape(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {"webhook": endpoint.pk, "url": endpoint.url, "events": endpoint.events, "status": endpoint.state}


_ID = text("The ID of the webhook.", pattern="^whk_[0-9A-HJKMNP-TV-Z]{26}$")
_ENDPOINT: dict[str, Schema] = {
    "webhook": _ID,
    "url": text("Where the events are posted."),
    "events": {
        "type": "array",
        "description": "Which events are posted.",
        "items": {"title": "WebhookEvent", "description": "An event.", "type": "string", "enum": list(EVENTS)},
    },
    "status": text("Whether events are posted.", title="WebhookStatus", enum=["active", "paused", "off"]),
}
_EXAMPLE = {
    "webhook": EXAMPLE_WEBHOOK,
    "url": "https://shop.example/hooks/notpanel",
    "events": ["refill.completed", "refill.rejected"],
    "status": "active",
}

ACTIONS = (
    Action(
        name="webhook.add",
        title="Add webhook",
        summary=(
            f"Adds an endpoint to which events of your refills are posted; an account can have {LARGEST_NUMBER}. "
            "The secret, with which the posts are signed, is in this answer and is never shown again."
        ),
        own_required=(URL,),
        own_options=(EVENTS_WANTED,),
        refusals=(InvalidWebhookUrl, UnknownWebhookEvent, WebhookExists, WebhookLimitReached),
        examples=(
            Example(
                "Two events",
                {"url": "https://shop.example/hooks/notpanel", "events": "refill.completed,refill.rejected"},
                _EXAMPLE | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="},
            ),
        ),
        schema=record(
            "WebhookAddAnswer",
            "A webhook that was added, with its secret.",
            _ENDPOINT
            | {"secret": text("The secret that signs the posts. Keep it.", pattern="^whsec_[A-Za-z0-9+/]{43}=$")},
        ),
        handler=add,
        writes=True,
    ),
    Action(
        name="webhook.list",
        title="List webhooks",
        summary=(
            "Lists your endpoints, the oldest first. Events for a paused endpoint are kept, and posted once it is "
            "resumed. No events are kept for one that is off, because it failed for three days or answered 410."
        ),
        examples=(Example("All webhooks", {}, [_EXAMPLE]),),
        schema={"type": "array", "items": record("Webhook", "An endpoint to which events are posted.", _ENDPOINT)},
        handler=list_all,
    ),
    Action(
        name="webhook.remove",
        title="Remove webhook",
        summary="Removes an endpoint for good. Events that were not posted to it yet are dropped.",
        own_required=(WEBHOOK,),
        refusals=(WebhookNotFound,),
        examples=(
            Example("One webhook", {"webhook": EXAMPLE_WEBHOOK}, {"webhook": EXAMPLE_WEBHOOK, "status": "removed"}),
        ),
        schema=record(
            "WebhookRemoveAnswer",
            "A webhook that was removed.",
            {"webhook": _ID, "status": text("The webhook is removed.", const="removed")},
        ),
        handler=remove,
        writes=True,
    ),
)
