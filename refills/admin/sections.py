"""What the desk adds to the pages of orders and accounts."""

from django.template.loader import render_to_string
from django.utils import timezone

from apikeys.models import Account
from orders.models import Order
from refills.desk import verdicts
from refills.requesting import tally_refills
from refills.rules import Tally

SHOWN_REFILLS = 50


def latest_refills(owner: Order | Account) -> str:
    """Return the latest refills of an order or an account, as an HTML table."""
    refills = owner.refills.select_related("settled_by").order_by("-created_at")[:SHOWN_REFILLS]
    return render_to_string("admin/refills/table.html", {"refills": refills})


def rules_now(order: Order) -> str:
    """Return how each rule judges a request for a refill of the order now, as an HTML list."""
    tally = tally_refills([order.pk]).get(order.pk, Tally())
    judged = verdicts(order, tally, timezone.now())
    return render_to_string("admin/refills/refill/verdicts.html", {"verdicts": judged})
