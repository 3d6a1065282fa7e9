"""A refill's page: everything about the refill at a glance, and the buttons that settle and claim it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from apikeys.requests import SignedInRequest
from notpanel.kit.public_id import parse
from refills import desk
from refills.admin.forms import SettleForm
from refills.admin.status_changes import apply_change, may_settle
from refills.models import Refill
from refills.settlement import ALLOWED_FROM, claim, release
from refills.statuses import IN_FLIGHT, RefillStatus


def for_settling(
    view: Callable[[Any, SignedInRequest, Refill], HttpResponseBase],
) -> Callable[[Any, SignedInRequest, str], HttpResponseBase]:
    """Pass the view the refill whose id is in the address. Refuse all but POSTs by staff who may settle."""

    @method_decorator(require_POST)
    @wraps(view)
    def wrapped(self: Any, request: SignedInRequest, object_id: str) -> HttpResponseBase:
        if not may_settle(request.user):
            raise PermissionDenied
        refill = _find(object_id)
        if refill is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        return view(self, request, refill)

    return wrapped


class RefillPage(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<str:object_id>/settle/", wrap(self.settle_view), name="refills_refill_settle"),
            path("<str:object_id>/claim/", wrap(self.claim_view), name="refills_refill_claim"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: SignedInRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied  # a refill cannot be edited
        refill = _find(object_id)
        if refill is None or not self.has_view_permission(request, refill):
            return super().change_view(request, object_id, form_url, extra_context)
        context = {
            "opts": self.opts,
            "original": refill,
            "title": f"Refill #{refill.number}",
            "look": desk.look_at(refill, request.user, timezone.now()),
            "may_settle": may_settle(request.user) and refill.status in IN_FLIGHT,
            "may_approve": refill.status in ALLOWED_FROM[RefillStatus.APPROVED],
            "form": SettleForm(auto_id="%s"),
            "media": self.media,
        }
        return TemplateResponse(
            request, "admin/refills/refill/page.html", self.admin_site.each_context(request) | context
        )

    def history_view(self, request: SignedInRequest, object_id: str, extra_context: Any = None) -> HttpResponseBase:
        """Redirect to the refill's page, which shows its history: the admin's log has no entries of refills."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return redirect("admin:refills_refill_change", object_id)

    @for_settling
    def settle_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Settle a refill, from its page or, with ``?back=``, from its row in the list."""
        form, done = SettleForm(request.POST), []
        if form.is_valid():
            done = apply_change(request, [refill.pk], form.change)
        for errors in form.errors.values():
            messages.error(request, " ".join(map(str, errors)))
        if "back" in request.GET or not done:
            return _back(request, refill)
        following = desk.next_in_queue(request.user, timezone.now(), refill)
        if following is None:
            messages.success(request, "The queue is empty.")
            return redirect("admin:refills_refill_changelist")
        return redirect("admin:refills_refill_change", following.pk)

    @for_settling
    def claim_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Take a refill, take it over from a colleague, or release it."""
        wish = request.POST.get("claim")
        if wish == "release":
            release([refill.pk], request.user)
        else:
            outcome = claim([refill.pk], request.user, take_over=wish == "take_over")
            for refusal in outcome.refused.values():
                messages.warning(request, f"Refill #{refill.number} was not taken: {refusal.text}.")
        return _back(request, refill)


def _find(object_id: str) -> Refill | None:
    """Find a refill by its number, or by its id as the admin quotes it. Loads all rows that its page shows with it."""
    reference = parse("ref", object_id.replace("_5F", "_"))
    related = (
        "order__service",
        "account",
        "api_key",
        "settled_by",
        "approved_by",
        "claimed_by",
        "snoozed_by",
        "requested_by",
    )
    return Refill.objects.select_related(*related).named([reference]).first()


def _back(request: SignedInRequest, refill: Refill) -> HttpResponse:
    """Redirect to the page with the button: the list, filtered as it was, or the refill's page."""
    if "back" not in request.GET:
        return redirect("admin:refills_refill_change", refill.pk)
    return redirect(f"{reverse('admin:refills_refill_changelist')}?{request.GET['back']}")
