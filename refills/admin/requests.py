"""The page on which staff request refills for a customer."""

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from apikeys.models import Account
from apikeys.requests import SignedInRequest
from notpanel.api.parameters import LARGEST_BATCH, split_ids
from notpanel.kit.refusals import Refusal
from refills.admin.status_changes import may_request
from refills.models import Refill
from refills.requesting import RequestedRefill, request_for_customer


class RequestPage(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.request_view)
        return [path("request/<int:account_id>/", view, name="refills_refill_request"), *super().get_urls()]

    def request_view(self, request: SignedInRequest, account_id: int) -> HttpResponse:
        """Ask for the orders of a customer (GET), request a refill of each, and show what became of it (POST)."""
        if not may_request(request.user):
            raise PermissionDenied
        account = get_object_or_404(Account, pk=account_id)
        text = request.POST.get("orders", "")
        context = self.admin_site.each_context(request) | {
            "opts": self.opts,
            "title": f"Request refills for {account}",
            "account": account,
            "largest_batch": LARGEST_BATCH,
            "text": text,
        }
        if request.method == "POST":
            ids = split_ids(text)
            try:
                if not ids:
                    context["error"] = "Enter at least one id or number of an order."
                elif len(ids) > LARGEST_BATCH:
                    context["error"] = f"Enter {LARGEST_BATCH} orders at most: these are {len(ids)}."
                else:
                    outcomes = request_for_customer(account, ids, request.user)
                    context |= _shown(ids, outcomes)
            except Refusal as refusal:
                context["error"] = f"No refill was requested: {refusal.text}."
        return TemplateResponse(request, "admin/refills/request.html", context)


def _shown(ids: list[str], outcomes: list[RequestedRefill | Refusal]) -> dict[str, object]:
    """Return what the page shows of the outcomes: a row for each order, and the refused orders to try again."""
    made = Refill.objects.in_bulk([outcome.id for outcome in outcomes if not isinstance(outcome, Refusal)])
    rows = [
        {"sent": sent, "refusal": outcome.text}
        if isinstance(outcome, Refusal)
        else {"sent": sent, "refill": made[outcome.id]}
        for sent, outcome in zip(ids, outcomes, strict=True)
    ]
    refused = [sent for sent, outcome in zip(ids, outcomes, strict=True) if isinstance(outcome, Refusal)]
    return {"rows": rows, "requested": len(made), "text": "\n".join(refused)}
