"""What the API answers when it does not do what it was asked: ``{"error": "<text>"}``, whatever went wrong.

The text, the status and the cause of an error stand on its class and nowhere else. The errors here are those
that every action shares (contract.md, "The order in which a request is judged"); an app adds its own.
"""

import logging
import sys
from typing import Any, ClassVar

import redis
from django.core.exceptions import SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from rest_framework import exceptions
from rest_framework.response import Response

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """A refusal that the client is told.

    ``message`` is the literal text; figures in braces are given by keyword when it is raised. ``example`` holds
    the figures that the documentation shows. ``cause`` is a sentence for the client's programmer.
    """

    status: ClassVar[int] = 400
    message: ClassVar[str]
    cause: ClassVar[str]
    example: ClassVar[dict[str, object]] = {}

    def __init__(self, *, headers: dict[str, str] | None = None, **figures: object) -> None:
        self.text = self.message.format(**figures)
        self.headers = headers or {}
        super().__init__(self.text)

    @classmethod
    def example_text(cls, **figures: object) -> str:
        """Return the text as the documentation shows it, with ``figures`` in place of those of the example."""
        return cls.message.format(**{**cls.example, **figures})


class RateLimitExceeded(ApiError):
    status = 429
    message = "Rate limit exceeded"
    cause = "One of the three limits is spent: X-RateLimit-DeniedBy says which, Retry-After for how many seconds."


class InvalidApiKey(ApiError):
    status = 401
    message = "Invalid API key"
    cause = "The key is missing, unknown, revoked or expired, or may not be used from your address."


class AccountSuspended(ApiError):
    status = 403
    message = "Account suspended"
    cause = "The account that the key belongs to is not active."


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
    cause = "The Content-Type is none of the three that are read: urlencoded, multipart and JSON."


class InternalServerError(ApiError):
    status = 500
    message = "Internal server error"
    cause = "Our fault. Say the X-Request-ID of the answer when you write to us."


class ServiceUnavailable(ApiError):
    status = 503
    message = "Service temporarily unavailable"
    cause = "The database or a lock was not to be had within the time limit. Nothing was changed: try again."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


def as_api_error(exc: Exception) -> ApiError:
    """Return what the client is told of ``exc``; what is no refusal of ours becomes a 500 or a 503."""
    match exc:
        case ApiError():
            return exc
        case exceptions.UnsupportedMediaType():
            return UnsupportedMediaType()
        case exceptions.MethodNotAllowed():
            return MethodNotAllowed()
        case exceptions.ParseError() | SuspiciousOperation():
            return MalformedBody()
        case OperationalError() | InterfaceError() | redis.RedisError():
            return ServiceUnavailable()
        case _:
            return InternalServerError()


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """Answer for an exception that a view raised (REST framework's EXCEPTION_HANDLER)."""
    error = as_api_error(exc)
    if error.status >= 500:
        logger.error("%s: %s", type(exc).__name__, error.text, exc_info=sys.exc_info())
    if error.status == 500:  # for whatever collects errors; a 503 is no mistake of ours
        got_request_exception.send(sender=None, request=context["request"])
    return Response({"error": error.text}, status=error.status, headers=error.headers)
