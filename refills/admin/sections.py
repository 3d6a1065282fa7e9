"""What the desk adds to the pages of orders and accounts."""

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone

from apikeys.models import Account
from notpanel.api.parameters import LARGEST_BATCH
from orders.models import Order
from refills import customers
from refills.admin.status_changes import may_request
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


def customer_at_a_glance(account: Account, request: HttpRequest) -> str:
    """Return the figures of a customer, and the form that requests refills for them, as HTML."""
    if account.is_staff or not request.user.has_perms(["refills.view_refill", "orders.view_order"]):
        return ""
    context = {
        "account": account,
        "look": customers.look_at(account),
        "may_request": may_request(request.user),
        "largest_batch": LARGEST_BATCH,
    }
    return render_to_string("admin/refills/customer.html", context, request)


def request_for_the_order(order: Order, request: HttpRequest) -> str:
    """Return the button that requests a refill of the order for its customer, as HTML."""
    if not may_request(request.user):
        return ""
    return render_to_string("admin/refills/request_one.html", {"order": order}, request)
