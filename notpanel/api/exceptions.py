"""Turn an exception into the error that the client reads."""

import logging
import sys
from typing import Any

import redis
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from rest_framework import exceptions
from rest_framework.response import Response

from notpanel.api import errors
from notpanel.api.dialects import NOTPANEL, Dialect
from notpanel.api.errors import headers_of, status_of
from notpanel.kit.refusals import Refusal, ServiceUnavailable

logger = logging.getLogger(__name__)


def as_refusal(exc: Exception) -> Refusal:
    """Return the refusal that the client reads. An unexpected exception becomes InternalServerError."""
    match exc:
        case Refusal():
            return exc
        case exceptions.MethodNotAllowed():
            return errors.MethodNotAllowed()
        case DisallowedHost():
            return errors.UnknownHost()
        case SuspiciousOperation():
            return errors.MalformedBody()
        case OperationalError() | InterfaceError() | redis.RedisError():
            return ServiceUnavailable()
        case _:
            return errors.InternalServerError()


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """Answer an exception that a view of the API raised. This is REST framework's EXCEPTION_HANDLER."""
    refusal = as_refusal(exc)
    status = status_of(type(refusal))
    if status >= 500:
        logger.error("%s: %s", type(exc).__name__, refusal.text, exc_info=sys.exc_info())
    if status == 500:  # for error trackers; a 503 is not a bug
        got_request_exception.send(sender=None, request=context["request"])
    dialect: Dialect = getattr(context["view"], "dialect", NOTPANEL)
    return Response(dialect.refused(refusal), status=dialect.http_status(refusal), headers=headers_of(refusal))
