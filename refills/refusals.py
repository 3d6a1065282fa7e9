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


class NoRefillRequested(Refusal):
    message = "No refill was requested for this order"
    cause = "The order is yours, and nobody has requested a refill of it yet."


class RefillNotFound(Refusal):
    message = "Refill not found"
    cause = "Refill ID doesn't exist or doesn't belong to your account."


class InvalidCursor(Refusal):
    message = "Invalid cursor"
    cause = "The cursor is not from refill_list, or the database was restored since. Begin anew without a cursor."


class UnknownStatus(Refusal):
    message = "Unknown status"
    cause = "There is no such status. The statuses are pending, approved, completed and rejected."


# ---- Settlement: an invalid change of status.


class NotAChange(Refusal):
    message = "A refill cannot be made {status}."


class RejectionUnexplained(Refusal):
    message = "Choose a reason, or write words of your own for the customer: a rejection needs one of them."


class ReasonWithoutRejection(Refusal):
    message = "Give the customer a reason only if you reject the refill."


class ReasonNotOneLine(Refusal):
    message = "Write the words for the customer on one line of at most {longest} characters."


class DeliveredWithoutCompletion(Refusal):
    message = "Enter delivered units only for a completed refill, as a whole number of 0 or more."


# ---- Other work of staff that is invalid as a whole.


class NotANote(Refusal):
    message = "Write a note of 1 to {longest} characters."


class DispatchDecided(Refusal):
    message = "There is nothing left to decide about this refill. Reload the page."


class NotASupplierRefill(Refusal):
    message = "Enter the id that the refill has at the supplier, of 1 to {longest} characters without a comma."


class ReopeningUnexplained(Refusal):
    message = "Write a note that says why the refill is reopened."


class SnoozeOutOfRange(Refusal):
    message = "Choose a time within the next {days} days."


class SelectionGrew(Refusal):
    message = "The list has changed since it was shown. Reload it, and select the refills again."


# ---- Settlement: why a refill keeps its status. Messages show these texts after the refill's number.


class NoSuchRefill(Refusal):
    message = "there is no such refill"


class RefillSettled(Refusal):
    message = "{status} by {by} at {at}"


class RefillHasStatus(Refusal):
    message = "it is {status} already"


class RefillTaken(Refusal):
    message = "taken by {by} at {at}"


class DeliveredAboveQuantity(Refusal):
    message = "{delivered} units are more than the {quantity} of the order, so they must be confirmed"


class ChangedByColleague(Refusal):
    message = "{status} by {by}, and nobody else may undo that"


class TooLateToUndo(Refusal):
    message = "{status} more than {seconds} seconds ago, so it can only be reopened"


class AnotherInFlight(Refusal):
    message = "refill #{number} of the same order is in flight"


class NoRefillLeft(Refusal):
    message = "the order has reached its cap of {cap} meanwhile"


class RefillsInFlight(Refusal):
    message = (
        "{count} refills of the account are in flight, or still followed at a supplier. Settle them, wait for half a "
        "minute, and try again."
    )
