"""The conditions on refills, each defined once. Tests compare the raw SQL that repeats a condition with it."""

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from notpanel.kit.public_id import PublicIdQuerySet
from refills.statuses import IN_FLIGHT, SETTLED, DispatchState, RefillStatus

if TYPE_CHECKING:
    from apikeys.models import Account

DUE_SOON = 0.75  # the share of SLA_HOURS after which a refill is due soon


class RefillQuerySet(PublicIdQuerySet):
    def in_flight(self) -> Self:
        """Return the refills that are not settled yet."""
        return self.filter(status__in=IN_FLIGHT)

    def settled(self) -> Self:
        """Return the refills that are completed or rejected."""
        # A constraint makes both conditions equal. Some indexes begin with the one, some with the other.
        return self.filter(status__in=SETTLED, settled_at__isnull=False)

    def settled_on_days(self, first: date | None, last: date | None) -> Self:
        """Return the refills that were settled on these days, both included, of the current time zone.

        None: without a beginning, or without an end.
        """
        found = self.settled()
        if first:
            found = found.filter(settled_at__gte=_midnight(first))
        if last:
            # The year 9999 has no end.
            found = found.filter(settled_at__lt=_midnight(last + timedelta(days=1))) if last < date.max else found
        return found

    def used_of_cap(self) -> Self:
        """Return the refills that the cap of their order counts: all but the rejected ones."""
        return self.exclude(status=RefillStatus.REJECTED)

    def late(self, now: datetime) -> Self:
        """Return the refills in flight that were requested longer than SLA_HOURS ago."""
        return self.in_flight().filter(is_late(now))

    def due_soon_or_late(self, now: datetime) -> Self:
        """Return the refills in flight for which three quarters of SLA_HOURS have passed."""
        return self.in_flight().filter(created_at__lt=due_soon_before(now))

    def free_for(self, account: "Account", now: datetime) -> Self:
        """Return the refills that no colleague of ``account`` has a claim on."""
        expired = Q(claimed_at__lte=claims_expire_before(now))
        return self.filter(Q(claimed_at=None) | expired | Q(claimed_by=account))

    def taken_by(self, account: "Account", now: datetime) -> Self:
        """Return the refills in flight on which ``account`` has a claim."""
        return self.in_flight().filter(claimed_by=account, claimed_at__gt=claims_expire_before(now))

    def snoozed(self, now: datetime) -> Self:
        """Return the refills in flight that staff put off to a time still to come."""
        return self.in_flight().filter(snoozed_until__gt=now)

    def awake(self, now: datetime) -> Self:
        """Return the refills that are not snoozed, whatever their status."""
        return self.filter(is_awake(now))

    def waiting(self, now: datetime) -> Self:
        """Return the refills that wait for an agent: pending and not snoozed."""
        return self.filter(status=RefillStatus.PENDING).awake(now)

    def oldest_first(self) -> Self:
        """Order the refills as the queue does."""
        return self.order_by("created_at", "id")


class DispatchQuerySet(QuerySet[Any]):
    def waiting_for_decision(self) -> Self:
        """Return the dispatches of refills in flight that do not go on by themselves: an agent decides."""
        unclear = Q(state=DispatchState.UNCLEAR, next_at=None)
        ended = Q(state__in=[DispatchState.REFUSED, DispatchState.GIVEN_UP])
        return self.filter(unclear | ended, refill__status__in=IN_FLIGHT)


def is_awake(now: datetime) -> Q:
    """Return the condition of ``RefillQuerySet.awake``, for counting refills in flight."""
    return Q(snoozed_until=None) | Q(snoozed_until__lte=now)


def is_late(now: datetime) -> Q:
    """Return the condition of ``RefillQuerySet.late``, for counting refills in flight."""
    return Q(created_at__lt=late_before(now))


def late_before(now: datetime) -> datetime:
    """Return the moment before which a refill must have been requested to be late now."""
    return now - timedelta(hours=settings.SLA_HOURS)


def due_soon_before(now: datetime) -> datetime:
    """Return the moment before which a refill must have been requested to be due soon, or late, now."""
    return now - timedelta(hours=settings.SLA_HOURS) * DUE_SOON


def claims_expire_before(now: datetime) -> datetime:
    """Return the moment up to which claims have expired now."""
    return now - timedelta(minutes=settings.CLAIM_MINUTES)


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time()))
