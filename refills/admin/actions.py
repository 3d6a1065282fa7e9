"""What staff do with the refills that they selected in the list."""

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from apikeys.requests import SignedInRequest
from refills.admin.forms import RejectForm
from refills.admin.status_changes import apply_change, may_settle
from refills.models import Refill
from refills.settlement import StatusChange
from refills.statuses import RefillStatus

LARGEST_SELECTION = 1000  # refills settled at once


class BulkActions(ModelAdmin):
    actions = ("approve", "complete", "reject")

    def has_settle_permission(self, request: SignedInRequest) -> bool:
        """Django asks this for an action with the permission "settle"."""
        return may_settle(request.user)

    @admin.action(description="Approve selected refills", permissions=["settle"])
    def approve(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> None:
        _settle_selected(request, _selected(request, queryset), StatusChange(RefillStatus.APPROVED))

    @admin.action(description="Complete selected refills", permissions=["settle"])
    def complete(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> None:
        _settle_selected(request, _selected(request, queryset), StatusChange(RefillStatus.COMPLETED))

    @admin.action(description="Reject selected refills…", permissions=["settle"])
    def reject(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> HttpResponse | None:
        """Ask why, and reject when the agent has confirmed."""
        selected = _selected(request, queryset)
        form = RejectForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            _settle_selected(request, selected, form.change)
            return None
        context = {"opts": self.opts, "title": "Reject refills", "form": form, "selected": selected}
        return TemplateResponse(
            request, "admin/refills/refill/reject.html", self.admin_site.each_context(request) | context
        )


def _selected(request: SignedInRequest, queryset: QuerySet[Refill]) -> list[str]:
    """Return the ids of the selected refills; one more than LARGEST_SELECTION at most if the whole list is selected."""
    if request.POST.get("select_across") == "1":
        return list(queryset.values_list("pk", flat=True)[: LARGEST_SELECTION + 1])
    # The queryset leaves out what a colleague has settled since the list was loaded: its filter no longer matches.
    return request.POST.getlist(ACTION_CHECKBOX_NAME)


def _settle_selected(request: SignedInRequest, selected: list[str], change: StatusChange) -> None:
    if len(selected) > LARGEST_SELECTION:
        messages.error(request, f"Select {LARGEST_SELECTION:,} refills at most.")
    else:
        apply_change(request, selected, change)
