"""What the desk adds to the pages of orders and accounts."""

from django.template.loader import render_to_string

from apikeys.models import Account
from orders.models import Order

SHOWN_REFILLS = 50


def latest_refills(owner: Order | Account) -> str:
    """Return the latest refills of an order or an account, as an HTML table."""
    refills = owner.refills.select_related("settled_by").order_by("-created_at")[:SHOWN_REFILLS]
    return render_to_string("admin/refills/table.html", {"refills": refills})
