"""What the migrations do to rows that were there before."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from refills.models import Refill
from tests import factories

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
