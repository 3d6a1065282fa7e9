"""The errors that every action shares (docs/contract.md, "Errors that every action shares").

Every other error of the API is a refusal of an app.
"""

from typing import ClassVar

from notpanel.kit.refusals import AccountSuspended, InvalidApiKey, Refusal, ServiceUnavailable


class ApiError(Refusal):
    """Refuse a request before an action judges it. Unlike the refusals of the apps, it knows its HTTP status."""

    status: ClassVar[int] = 400


class RateLimitExceeded(ApiError):
    """Refuse a request over a limit. ``denied_by`` is the layer, ``retry_after`` the seconds until its next window."""

    status = 429
    message = "Rate limit exceeded"
    cause = "One of the three limits is spent. X-RateLimit-DeniedBy says which, Retry-After how many seconds to wait."

    def __init__(self, denied_by: str, retry_after: int) -> None:
        self.denied_by, self.retry_after = denied_by, retry_after
        super().__init__()


class KeyIsReadOnly(ApiError):
    status = 403
    message = "API key is read-only"
    cause = "The key can read everything, but change nothing. Use another key, or change this one on the dashboard."


class MissingParameter(ApiError):
    message = "Missing required parameter: {name}"
    cause = "A required parameter is missing or empty."
    example = {"name": "action"}


class InvalidRequestId(ApiError):
    message = "Invalid request_id (1 to 128 visible ASCII characters)"
    cause = "The request_id is too long, or has a blank or a character outside ASCII."


class UnknownAction(ApiError):
    message = "Unknown action"
    cause = "No action has this name. Names are case-sensitive."


class BothGiven(ApiError):
    message = "Provide either {one} or {many}, not both"
    cause = "The request has both a single id and a list of ids."
    example = {"one": "order", "many": "orders"}


class SeveralGiven(ApiError):
    message = "Provide only one of {names}"
    cause = "The request has several of these parameters. It may have only one."
    example = {"names": "refill, refills, order or orders"}


class TooMany(ApiError):
    message = "Too many {many} ({limit} at most)"
    cause = "The list has more ids than one request may have."
    example = {"many": "orders", "limit": 100}


class ParameterRepeated(ApiError):
    message = "Parameter given more than once: {name}"
    cause = "A parameter that takes one value came with several. Only lists of ids may repeat their name."
    example = {"name": "order"}


class MalformedBody(ApiError):
    message = "Malformed request body"
    cause = "The body does not match its Content-Type or was cut off, or a parameter is not text."


class MalformedRequest(ApiError):
    message = "Malformed request"
    cause = "What arrived is not an HTTP request: its first line, a header or a length cannot be read."


class UnknownHost(ApiError):
    status = 421
    message = "Unknown host"
    cause = "The Host header does not name this site."


class NotFound(ApiError):
    status = 404
    message = "Not found"
    cause = "Nothing is served at this address. The API is at /api/v2."


class MethodNotAllowed(ApiError):
    status = 405
    message = "Method not allowed"
    cause = "The request is not a POST."


class BodyTooLarge(ApiError):
    status = 413
    message = "Request body too large"
    cause = "The body is larger than 64 KiB."


class UnsupportedContentEncoding(ApiError):
    status = 415
    message = "Unsupported content encoding"
    cause = "The body is compressed. Send it without a Content-Encoding."


class UnsupportedMediaType(ApiError):
    status = 415
    message = "Unsupported media type"
    cause = "The Content-Type is not one of the three that the API reads: urlencoded, multipart and JSON."


class HeadersTooLarge(ApiError):
    status = 431
    message = "Request headers too large"
    cause = "The first line and the headers together are larger than 256 KiB."


class UnsupportedTransferEncoding(ApiError):
    status = 501
    message = "Unsupported transfer encoding"
    cause = "The Transfer-Encoding is not chunked."


class InternalServerError(ApiError):
    status = 500
    message = "Internal server error"
    cause = "This is our fault. Quote the X-Request-ID of the answer when you write to us."


# In the order in which the documentation lists them.
SHARED_ERRORS: tuple[type[Refusal], ...] = (
    UnknownHost,
    RateLimitExceeded,
    InvalidApiKey,
    AccountSuspended,
    MissingParameter,
    UnknownAction,
    BothGiven,
    TooMany,
    ParameterRepeated,
    MalformedBody,
    MalformedRequest,
    MethodNotAllowed,
    BodyTooLarge,
    UnsupportedContentEncoding,
    UnsupportedMediaType,
    HeadersTooLarge,
    UnsupportedTransferEncoding,
    ServiceUnavailable,
    InternalServerError,
)

# The refusals that do not know their status. Any that is not listed here is a 400.
_STATUSES: dict[type[Refusal], int] = {InvalidApiKey: 401, AccountSuspended: 403, ServiceUnavailable: 503}


def status_of(refusal: type[Refusal]) -> int:
    """Return the HTTP status with which a refusal is answered."""
    return refusal.status if issubclass(refusal, ApiError) else _STATUSES.get(refusal, 400)


def headers_of(refusal: Refusal) -> dict[str, str]:
    """Return the headers that belong to a refusal's answer."""
    headers = {"X-Error-Code": refusal.code()}
    match refusal:
        case RateLimitExceeded():
            headers |= {"X-RateLimit-DeniedBy": refusal.denied_by, "Retry-After": str(refusal.retry_after)}
        case ServiceUnavailable():
            headers["Retry-After"] = "1"
    return headers
