"""What the API answers when it does not do what it was asked: ``{"error": "<text>"}``, whatever went wrong.

An app's refusals and the errors here are all the errors there are. The errors here are those that every action shares
(docs/contract.md, "The order in which a request is judged").
"""

from typing import ClassVar

from notpanel.kit.caller import AccountSuspended, InvalidApiKey
from notpanel.kit.refusals import Refusal, ServiceUnavailable


class ApiError(Refusal):
    """Refuse a request for what it is, before an action is asked."""

    status: ClassVar[int] = 400


class RateLimitExceeded(ApiError):
    """``denied_by`` is the limit that is spent, ``retry_after`` the seconds until its next window."""

    status = 429
    message = "Rate limit exceeded"
    cause = "One of the three limits is spent: X-RateLimit-DeniedBy says which, Retry-After for how many seconds."

    def __init__(self, denied_by: str, retry_after: int) -> None:
        self.denied_by, self.retry_after = denied_by, retry_after
        super().__init__()


class MissingParameter(ApiError):
    message = "Missing required parameter: {name}"
    cause = "A parameter that the action needs is missing or empty."
    example = {"name": "action"}


class UnknownAction(ApiError):
    message = "Unknown action"
    cause = "There is no action of that name."


class BothGiven(ApiError):
    message = "Provide either {one} or {many}, not both"
    cause = "A single id and a list of ids came in one request."
    example = {"one": "order", "many": "orders"}


class TooMany(ApiError):
    message = "Too many {many} ({limit} at most)"
    cause = "The list holds more ids than one request may carry."
    example = {"many": "orders", "limit": 100}


class MalformedBody(ApiError):
    message = "Malformed request body"
    cause = "The body is not what its Content-Type says, or a parameter is not text."


class NotFound(ApiError):
    status = 404
    message = "Not found"
    cause = "There is nothing at this address: the API is at /api/v2."


class MethodNotAllowed(ApiError):
    status = 405
    message = "Method not allowed"
    cause = "The request is not a POST."


class BodyTooLarge(ApiError):
    status = 413
    message = "Request body too large"
    cause = "The body is larger than 64 KiB."


class UnsupportedMediaType(ApiError):
    status = 415
    message = "Unsupported media type"
    cause = "The Content-Type is not one of the three that are read: urlencoded, multipart and JSON."


class InternalServerError(ApiError):
    status = 500
    message = "Internal server error"
    cause = "Our fault. Quote the X-Request-ID of the answer when you write to us."


# The errors that every action shares, in the order in which they are judged.
SHARED_ERRORS: tuple[type[Refusal], ...] = (
    RateLimitExceeded,
    InvalidApiKey,
    AccountSuspended,
    MissingParameter,
    UnknownAction,
    BothGiven,
    TooMany,
    MalformedBody,
    MethodNotAllowed,
    BodyTooLarge,
    UnsupportedMediaType,
    ServiceUnavailable,
    InternalServerError,
)

# The statuses of the refusals that know no HTTP. All others are answered with 400.
_STATUSES: dict[type[Refusal], int] = {InvalidApiKey: 401, AccountSuspended: 403, ServiceUnavailable: 503}


def status_of(refusal: type[Refusal]) -> int:
    """Return the HTTP status of the answer to a refused request."""
    return refusal.status if issubclass(refusal, ApiError) else _STATUSES.get(refusal, 400)


def headers_of(refusal: Refusal) -> dict[str, str]:
    """Return the headers that the answer to a refused request has besides its status."""
    match refusal:
        case RateLimitExceeded():
            return {"X-RateLimit-DeniedBy": refusal.denied_by, "Retry-After": str(refusal.retry_after)}
        case ServiceUnavailable():
            return {"Retry-After": "1"}
        case _:
            return {}
