from django.db import models


class RefillStatus(models.TextChoices):
    """The status of a refill (docs/contract.md, "Refill statuses")."""

    PENDING = "pending"
    APPROVED = "approved"
    COMPLETED = "completed"
    REJECTED = "rejected"


IN_FLIGHT = (RefillStatus.PENDING, RefillStatus.APPROVED)
SETTLED = (RefillStatus.COMPLETED, RefillStatus.REJECTED)


class DispatchState(models.TextChoices):
    """How far the sending of a refill to its supplier is (docs/suppliers.md, "States")."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    UNCLEAR = "unclear"
    REFUSED = "refused"
    SETTLED = "settled"
    GIVEN_UP = "given_up"


OPEN = (DispatchState.WAITING, DispatchState.SENDING, DispatchState.SENT, DispatchState.UNCLEAR)
ENDED = (DispatchState.REFUSED, DispatchState.SETTLED, DispatchState.GIVEN_UP)
