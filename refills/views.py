"""The customer's pages of orders and refills: parse, call, show."""

import re
from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apikeys.models import Account
from notpanel.api.errors import TooMany
from notpanel.api.parameters import LARGEST_BATCH
from notpanel.kit import public_id
from notpanel.kit.pagination import slice_of
from notpanel.kit.refusals import Refusal
from orders.models import OrderStatus
from orders.refusals import OrderNotFound
from refills import dashboard
from refills.requesting import request_refills
from refills.statuses import RefillStatus


@login_required
@never_cache
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    found = dashboard.overview(_account_id(request), timezone.now())
    return render(request, "dashboard/overview.html", {"overview": found})


@login_required
@never_cache
@require_safe
def orders(request: HttpRequest) -> HttpResponse:
    """List the orders, with a button on each one that may be refilled."""
    status, search = _choice(request, OrderStatus.values), _search(request)
    found = slice_of(
        dashboard.orders_of(_account_id(request), status=status, search=search),
        before=request.GET.get("before", ""),
        after=request.GET.get("after", ""),
    )
    now = timezone.now()
    context = {
        "rows": dashboard.order_rows(found.rows, now),
        "now": now,
        "slice": found,
        "statuses": OrderStatus,
        "status": status,
        "search": search,
    }
    return render(request, "dashboard/orders.html", context)


@login_required
def refill(request: HttpRequest) -> HttpResponse:
    """Request a refill of one order, and return to the list."""
    if request.method != "POST":  # a customer who had to sign in first arrives by GET
        return redirect("dashboard:orders")
    order = request.POST.get("order", "")[: public_id.LONGEST]
    [outcome] = request_refills(_account_id(request), [order])
    if isinstance(outcome, Refusal):
        messages.error(request, f"{order}: {outcome.text}.")
    else:
        messages.success(request, f"Requested {outcome} for {order}.")
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        back = reverse("dashboard:orders")
    return redirect(back)


@login_required
@never_cache
def refill_list(request: HttpRequest) -> HttpResponse:
    """Request refills of a pasted list of orders, and show what became of each."""
    text = request.POST.get("orders", "")
    ids = re.split(r"[\s,;]+", text.strip(" \t\r\n,;")) if text.strip(" \t\r\n,;") else []
    context: dict[str, object] = {"text": text, "largest_batch": LARGEST_BATCH}
    if request.method != "POST":
        return render(request, "dashboard/refill_list.html", context)
    if not ids or len(ids) > LARGEST_BATCH:
        too_many = TooMany(many="orders", limit=LARGEST_BATCH).text
        context["error"] = f"{too_many}: the list has {len(ids)}." if ids else "Paste at least one order ID or number."
        return render(request, "dashboard/refill_list.html", context, status=400)
    outcomes = request_refills(_account_id(request), ids)
    context["results"] = [
        {"order": order, "found": not isinstance(outcome, OrderNotFound), "error": outcome.text}
        if isinstance(outcome, Refusal)
        else {"order": order, "found": True, "refill": outcome}
        for order, outcome in zip(ids, outcomes, strict=True)
    ]
    context["requested"] = sum(not isinstance(outcome, Refusal) for outcome in outcomes)
    return render(request, "dashboard/refill_list.html", context)


@login_required
@never_cache
@require_safe
def refills(request: HttpRequest) -> HttpResponse:
    """List the refills, the latest first."""
    status, search = _choice(request, RefillStatus.values), _search(request)
    found = slice_of(
        dashboard.refills_of(_account_id(request), status=status, search=search),
        before=request.GET.get("before", ""),
        after=request.GET.get("after", ""),
    )
    context = {"slice": found, "statuses": RefillStatus, "status": status, "search": search}
    return render(request, "dashboard/refills.html", context)


def _account_id(request: HttpRequest) -> int:
    return cast(Account, request.user).pk


def _choice(request: HttpRequest, choices: list[str]) -> str:
    status = request.GET.get("status", "")
    return status if status in choices else ""


def _search(request: HttpRequest) -> str:
    return request.GET.get("q", "").strip().replace("\0", "")
