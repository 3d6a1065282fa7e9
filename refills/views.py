"""The customer's pages of orders and refills: parse, call, show."""

import logging
from time import monotonic

import redis
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import OperationalError
from django.http import Http404, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apikeys.requests import SignedInRequest
from notpanel.api.errors import RateLimitExceeded, status_of
from notpanel.api.parameters import LARGEST_BATCH, split_ids
from notpanel.api.ratelimits import RateLimits
from notpanel.kit import public_id
from notpanel.kit.csv_answers import csv_answer
from notpanel.kit.pagination import page_of
from notpanel.kit.refusals import Refusal, ServiceUnavailable
from orders.models import OrderStatus
from refills import dashboard
from refills.requesting import RequestedRefill, request_refills
from refills.statuses import RefillStatus

logger = logging.getLogger(__name__)

SECONDS_OF_A_LIST = 10  # after which no further batch of a pasted list is begun


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
    now = timezone.now()
    status, search = _choice(request, [dashboard.REFILLABLE, *OrderStatus.values]), _search(request)
    found = page_of(
        dashboard.orders_of(request.user.pk, now, status=status, search=search),
        before=request.GET.get("before", ""),
        after=request.GET.get("after", ""),
        edges=dashboard.orders_of(request.user.pk, now),
    )
    context = {
        "rows": dashboard.order_rows(request.user.pk, found.rows, now),
        "now": now,
        "page": found,
        "statuses": {dashboard.REFILLABLE: "can be refilled now"} | {value: value for value in OrderStatus.values},
        "status": status,
        "search": search,
    }
    return render(request, "dashboard/orders.html", context)


@login_required
@never_cache
@require_safe
def order(request: SignedInRequest, reference: str) -> HttpResponse:
    """Show an order with its refills, and a button if it may be refilled."""
    now = timezone.now()
    found = dashboard.find_order(request.user.pk, reference, now)
    if found is None:
        raise Http404
    return render(request, "dashboard/order.html", {"row": found.row, "refills": found.refills, "now": now})


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
    """Request refills of a pasted list of orders, of any length, and show what became of each.

    The list is read as the API reads one, and sent in batches of LARGEST_BATCH. Each batch counts as one request on the
    limit of the account's tier. What is not sent when the limit is reached, or after SECONDS_OF_A_LIST, is offered
    again.
    """
    text = request.POST.get("orders", "")
    context: dict[str, object] = {"text": text, "largest_batch": LARGEST_BATCH}
    if request.method != "POST":
        return render(request, "dashboard/refill_list.html", context)
    ids = split_ids(text)
    if not ids:
        context["error"] = "Paste at least one order ID or number."
        return render(request, "dashboard/refill_list.html", context, status=400)
    outcomes, failure = _send_in_batches(request, ids)
    if isinstance(failure, RateLimitExceeded):
        context["error"] = f"Your account has made too many requests. Try again in {failure.retry_after} seconds."
    elif failure:
        context["error"] = f"{failure.text}. Try again in a moment."
    if outcomes:
        context |= {
            "results": dashboard.list_results(request.user.pk, ids[: len(outcomes)], outcomes, timezone.now()),
            "text": "\n".join(ids[len(outcomes) :]),
            "not_sent": len(ids) - len(outcomes),
        }
    status = status_of(type(failure)) if failure and not outcomes else 200
    response = render(request, "dashboard/refill_list.html", context, status=status)
    if isinstance(failure, RateLimitExceeded):
        response["Retry-After"] = str(failure.retry_after)
    return response


def _send_in_batches(
    request: SignedInRequest, ids: list[str]
) -> tuple[list[RequestedRefill | Refusal], Refusal | None]:
    """Request refills of ``ids``. Returns the outcomes so far, and why it did not go on, if something stopped it.

    What was requested by then is requested, so its outcomes are never lost to a failure.
    """
    outcomes: list[RequestedRefill | Refusal] = []
    until = monotonic() + SECONDS_OF_A_LIST
    for start in range(0, len(ids), LARGEST_BATCH):
        if outcomes and monotonic() > until:
            break
        try:
            RateLimits(request).count_account(request.user.pk, request.user.tier)
            outcomes += request_refills(request.user.pk, ids[start : start + LARGEST_BATCH])
        except (RateLimitExceeded, ServiceUnavailable) as refusal:
            return outcomes, refusal
        except (OperationalError, redis.RedisError):
            logger.exception("Failed to request a batch of a pasted list.")
            return outcomes, ServiceUnavailable()
    return outcomes, None


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
    context = {
        "page": found,
        "statuses": {value: value for value in RefillStatus.values},
        "status": status,
        "search": search,
    }
    return render(request, "dashboard/refills.html", context)


@login_required
@never_cache
@require_safe
def history(request: SignedInRequest) -> HttpResponseBase:
    """Stream the refills of the list, all of its pages, as CSV."""
    found = dashboard.refills_of(
        request.user.pk, status=_choice(request, RefillStatus.values), search=_search(request)
    ).order_by("-created_at", "-pk")
    return csv_answer(found, dashboard.HISTORY, f"refills-{timezone.now():%Y-%m-%d}")


def _choice(request: SignedInRequest, choices: list[str]) -> str:
    status = request.GET.get("status", "")
    return status if status in choices else ""


def _search(request: SignedInRequest) -> str:
    return request.GET.get("q", "").strip().replace("\0", "")
