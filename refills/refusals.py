"""The refusals of a refill, in the order in which they are judged (request-refill.txt, "Common errors")."""

from django.conf import settings

from notpanel.kit.refusals import Refusal
from orders.refusals import OrderNotFound


class OrderNotFinished(Refusal):
    message = "Refill only available for completed or partial orders"
    cause = "The order is still pending, processing, in_progress, cancelled, or refunded."


class ServiceNotRefillable(Refusal):
    message = "Service does not support refills"
    cause = "The underlying service has refill=false. Check the services catalog before submitting refill requests."


class RefillPeriodExpired(Refusal):
    message = "Refill period has expired ({days} days)"
    cause = "The service has a refill period, and the order completed longer ago."
    example = {"days": 30}


class RefillAlreadyPending(Refusal):
    message = "A refill request is already pending for this order"
    cause = "Wait for the previous refill to settle before creating another."


class RefillLimitReached(Refusal):
    message = "Refill limit reached ({limit} per order)"
    cause = "Per-order cap exhausted."
    example = {"limit": settings.REFILL_LIMIT}


REFUSALS = (
    OrderNotFound,
    OrderNotFinished,
    ServiceNotRefillable,
    RefillPeriodExpired,
    RefillAlreadyPending,
    RefillLimitReached,
)


class RefillNotFound(Refusal):
    message = "Refill not found"
    cause = "Refill ID doesn't exist or doesn't belong to your account."
