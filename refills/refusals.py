"""Why a request for a refill or a settlement is refused."""

from django.conf import settings

from notpanel.kit.refusals import Refusal

# ---- Requests. The texts are those of docs/contract.md, "action=refill".


class OrderNotDelivered(Refusal):
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


class RefillNotFound(Refusal):
    message = "Refill not found"
    cause = "Refill ID doesn't exist or doesn't belong to your account."


# ---- Settlement: an invalid change of status.


class NotAChange(Refusal):
    message = "A refill cannot be made {status}."


class RejectionUnexplained(Refusal):
    message = "Choose a reason or write a note: a rejection needs one of them."


class ReasonWithoutRejection(Refusal):
    message = "Choose a reason for a rejection only."


class DeliveredWithoutCompletion(Refusal):
    message = "Enter delivered units for a completed refill only, as a whole number of 0 or more."


# ---- Settlement: why a refill keeps its status. Messages show these texts after the refill's number.


class NoSuchRefill(Refusal):
    message = "there is no such refill"


class RefillSettled(Refusal):
    message = "{status} by {by} at {at:%Y-%m-%d %H:%M} UTC"


class RefillHasStatus(Refusal):
    message = "it is {status} already"


class RefillTaken(Refusal):
    message = "taken by {by} at {at:%H:%M} UTC"
