from django.db import models


class RefillStatus(models.TextChoices):
    """The status of a refill (docs/contract.md, "Refill statuses")."""

    PENDING = "pending"
    APPROVED = "approved"
    COMPLETED = "completed"
    REJECTED = "rejected"


IN_FLIGHT = (RefillStatus.PENDING, RefillStatus.APPROVED)
SETTLED = (RefillStatus.COMPLETED, RefillStatus.REJECTED)
