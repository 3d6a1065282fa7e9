"""What the migrations do to rows that were there before."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from refills.audit import findings
from refills.models import Refill
from refills.statistics import statistics
from tests import factories
from tests.refills import slow_statistics

BEFORE, AFTER = ("refills", "0005_words_and_ways"), ("refills", "0006_what_the_desk_keeps")


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("migrations")
def test_rejected_refills_keep_the_words_that_their_customers_were_told():
    rejected = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Private."))
    others = [factories.Refill(status=status) for status in ("rejected", "completed", "pending")]
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes("refills")
    try:
        MigrationExecutor(connection).migrate([BEFORE])
        MigrationExecutor(connection).migrate([AFTER])
    finally:
        MigrationExecutor(connection).migrate(latest)

    rejected.refresh_from_db()
    assert rejected.reason_text == "Private."
    assert not Refill.objects.filter(pk__in=[other.pk for other in others]).exclude(reason_text="").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("migrations")
def test_the_figures_count_what_was_there_before_them():
    for days in (0, 3, 29, 45):
        moment = timezone.now() - timedelta(days=days)
        order = factories.Order(created_at=moment - timedelta(days=2))
        factories.Refill(order=order, status="completed", created_at=moment)
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes("refills")
    try:
        MigrationExecutor(connection).migrate([("refills", "0013_the_order_of_changes")])
        MigrationExecutor(connection).migrate([("refills", "0017_figures_of_the_past")])
    finally:
        MigrationExecutor(connection).migrate(latest)

    now = timezone.now() + timedelta(seconds=1)
    assert statistics(now) == slow_statistics.statistics(now)
    assert statistics(now).hours_to_settle[30] == (0, 0)
    assert "figures" not in [finding.invariant.name for finding in findings()]
