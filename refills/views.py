"""The customer's pages of orders and refills: parse, call, show."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apikeys.requests import SignedInRequest
from notpanel.api.errors import RateLimitExceeded, TooMany, status_of
from notpanel.api.parameters import LARGEST_BATCH, split_ids
from notpanel.api.ratelimits import RateLimits
from notpanel.kit import public_id
from notpanel.kit.pagination import page_of
from notpanel.kit.refusals import Refusal
from orders.models import OrderStatus
from orders.refusals import OrderNotFound
from refills import dashboard
from refills.requesting import request_refills
from refills.statuses import RefillStatus


@login_required
@never_cache
@require_safe
def overview(request: SignedInRequest) -> HttpResponse:
    found = dashboard.overview(request.user.pk, timezone.now())
    return render(request, "dashboard/overview.html", {"overview": found})


@login_required
@never_cache
@require_safe
def orders(request: SignedInRequest) -> HttpResponse:
    """List the orders, with a button on each one that may be refilled."""
    status, search = _choice(request, OrderStatus.values), _search(request)
    found = page_of(
        dashboard.orders_of(request.user.pk, status=status, search=search),
        before=request.GET.get("before", ""),
        after=request.GET.get("after", ""),
    )
    now = timezone.now()
    context = {
        "rows": dashboard.order_rows(found.rows, now),
        "now": now,
        "page": found,
        "statuses": OrderStatus,
        "status": status,
        "search": search,
    }
    return render(request, "dashboard/orders.html", context)


@login_required
def refill(request: SignedInRequest) -> HttpResponse:
    """Request a refill of one order, and return to the list."""
    if request.method != "POST":  # a customer who had to sign in first arrives by GET
        return redirect("dashboard:orders")
    order = request.POST.get("order", "")[: public_id.LONGEST]
    [outcome] = request_refills(request.user.pk, [order])
    if isinstance(outcome, Refusal):
        messages.error(request, f"{order}: {outcome.text}.")
    else:
        messages.success(request, f"Requested {outcome.id} for {order}.")
    back = request.POST.get("next", "")
    if not (back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None)):
        back = reverse("dashboard:orders")
    return HttpResponseRedirect(back)


@login_required
@never_cache
def refill_list(request: SignedInRequest) -> HttpResponse:
    """Request refills of a pasted list of orders, and show what became of each.

    The list is read as the API reads one, and counts as one request on the limit of the account's tier.
    """
    text = request.POST.get("orders", "")
    context: dict[str, object] = {"text": text, "largest_batch": LARGEST_BATCH}
    if request.method != "POST":
        return render(request, "dashboard/refill_list.html", context)
    try:
        RateLimits(request).count_account(request.user.pk, request.user.tier)
    except RateLimitExceeded as refusal:
        context["error"] = f"Your account has made too many requests. Try again in {refusal.retry_after} seconds."
        response = render(request, "dashboard/refill_list.html", context, status=status_of(RateLimitExceeded))
        response["Retry-After"] = str(refusal.retry_after)
        return response
    ids = split_ids(text)
    if not ids or len(ids) > LARGEST_BATCH:
        too_many = TooMany(many="orders", limit=LARGEST_BATCH).text
        context["error"] = f"{too_many}: the list has {len(ids)}." if ids else "Paste at least one order ID or number."
        return render(request, "dashboard/refill_list.html", context, status=400)
    outcomes = request_refills(request.user.pk, ids)
    context["results"] = [
        {"order": order, "found": not isinstance(outcome, OrderNotFound), "error": outcome.text}
        if isinstance(outcome, Refusal)
        else {"order": order, "found": True, "refill": outcome.id}
        for order, outcome in zip(ids, outcomes, strict=True)
    ]
    context["requested"] = sum(not isinstance(outcome, Refusal) for outcome in outcomes)
    return render(request, "dashboard/refill_list.html", context)


@login_required
@never_cache
@require_safe
def refills(request: SignedInRequest) -> HttpResponse:
    """List the refills, the latest first."""
    status, search = _choice(request, RefillStatus.values), _search(request)
    found = page_of(
        dashboard.refills_of(request.user.pk, status=status, search=search),
        before=request.GET.get("before", ""),
        after=request.GET.get("after", ""),
    )
    context = {"page": found, "statuses": RefillStatus, "status": status, "search": search}
    return render(request, "dashboard/refills.html", context)


def _choice(request: SignedInRequest, choices: list[str]) -> str:
    status = request.GET.get("status", "")
    return status if status in choices else ""


def _search(request: SignedInRequest) -> str:
    return request.GET.get("q", "").strip().replace("\0", "")
