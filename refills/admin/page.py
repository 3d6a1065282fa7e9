"""A refill's page, and the addresses to which its buttons and those of a row in the list post."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.admin import ModelAdmin

from apikeys.requests import SignedInRequest
from notpanel.kit.public_id import parse
from notpanel.kit.refusals import Refusal
from refills import desk
from refills.admin import presence
from refills.admin.forms import NoteForm, SettleForm, SnoozeForm
from refills.admin.status_changes import apply_change, may_reopen, may_settle, report, report_snoozed
from refills.dispatching import is_with_supplier, send_again
from refills.models import Refill, RejectionReason
from refills.notes import add_note
from refills.refusals import DeliveredAboveQuantity
from refills.reopening import reopen, undo
from refills.settlement import ALLOWED_FROM, Outcome, claim, release
from refills.snoozing import snooze, unsnooze
from refills.statuses import IN_FLIGHT, RefillStatus

NOTHING_CHANGED = "Nothing was changed. Press the button again."
REASONS_BY_KEY = 9  # reasons with a button and a key of their own
LARGEST_UNDO = 1000  # refills


def on_a_refill(
    view: Callable[[Any, SignedInRequest, Refill], HttpResponseBase],
) -> Callable[[Any, SignedInRequest, str], HttpResponseBase]:
    """Pass the view the refill whose id is in the address. Refuse staff who may not settle.

    A GET comes from a user who pressed a button and had to sign in again, or who reloaded the answer. It redirects to
    the refill.
    """

    @wraps(view)
    def wrapped(self: Any, request: SignedInRequest, object_id: str) -> HttpResponseBase:
        if not may_settle(request.user):
            raise PermissionDenied
        refill = _find(object_id)
        if refill is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if request.method != "POST":
            messages.warning(request, NOTHING_CHANGED)
            return _to_page(request, refill)
        return view(self, request, refill)

    return wrapped


class RefillPage(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        views = {
            "settle": self.settle_view,
            "claim": self.claim_view,
            "note": self.note_view,
            "snooze": self.snooze_view,
            "reopen": self.reopen_view,
            "dispatch": self.dispatch_view,
            "next": self.next_view,
            "presence": self.presence_view,
        }
        return [
            path("queue/", wrap(self.queue_view), name="refills_refill_queue"),
            path("undo/", wrap(self.undo_view), name="refills_refill_undo"),
            *(
                path(f"<str:object_id>/{name}/", wrap(view), name=f"refills_refill_{name}")
                for name, view in views.items()
            ),
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
        return self._page(request, refill)

    def history_view(self, request: SignedInRequest, object_id: str, extra_context: Any = None) -> HttpResponseBase:
        """Redirect to the refill's page, which shows its history: the admin's log has no entries of refills."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return redirect("admin:refills_refill_change", object_id)

    @on_a_refill
    def settle_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Settle a refill, from its page or, with ``?back=``, from its row in the list."""
        sent = request.POST.copy()
        if "reject_with" in sent:  # a button that rejects with one reason of the list
            sent["to"], sent["reason"] = RefillStatus.REJECTED, request.POST["reject_with"]
        form = SettleForm(sent)
        if not form.is_valid():
            messages.error(request, " ".join(str(error) for errors in form.errors.values() for error in errors))
            return self._page(request, refill, settle_form=form)
        outcome = apply_change(request, [refill.pk], form.change)
        if "back" in request.GET:
            return _to_list(request.GET["back"])
        if outcome.done:
            return self._go_on(request, refill)
        above = isinstance(outcome.refused.get(refill.pk), DeliveredAboveQuantity)
        current = _find(refill.pk) or refill
        return self._page(request, current, settle_form=form, ask_to_confirm=above)

    @on_a_refill
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

    @on_a_refill
    def note_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Add a note to a refill, whatever its status."""
        form = NoteForm(request.POST)
        if not form.is_valid():
            messages.error(request, " ".join(map(str, form.errors["note"])))
            return self._page(request, refill, note_form=form)
        add_note([refill.pk], request.user, form.cleaned_data["note"])
        report(request, Outcome([refill], {}), "given your note")
        return _to_page(request, refill)

    @on_a_refill
    def snooze_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Put a refill off and go on to the next, or, with ``wake``, put it back into the queue."""
        if "wake" in request.POST:
            unsnooze([refill.pk], request.user)
            return _to_page(request, refill)
        form = SnoozeForm(request.POST)
        if not form.is_valid():
            return self._page(request, refill, snooze_form=form)
        until = form.until
        outcome = snooze([refill.pk], request.user, until, form.cleaned_data["note"])
        report_snoozed(request, outcome, until)
        if outcome.done:
            return self._go_on(request, refill)
        return self._page(request, _find(refill.pk) or refill, snooze_form=form)

    @on_a_refill
    def reopen_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        if not may_reopen(request.user):
            raise PermissionDenied
        form = NoteForm(request.POST, prefix="reopen")
        if not form.is_valid():
            return self._page(request, refill, reopen_form=form)
        outcome = reopen([refill.pk], request.user, form.cleaned_data["note"])
        report(request, outcome, "reopened")
        return _to_page(request, refill) if outcome.done else self._page(request, refill, reopen_form=form)

    @on_a_refill
    def dispatch_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Carry out an agent's decision about a refill that the supplier refused, or may or may not have."""
        try:
            if request.POST.get("decision") == "is_there":
                is_with_supplier(refill, request.POST.get("supplier_refill", ""), request.user)
                messages.success(request, f"Refill #{refill.number} is now followed at its supplier.")
            else:
                send_again(refill, request.user)
                messages.success(request, f"Refill #{refill.number} will be sent to its supplier again.")
        except Refusal as refusal:
            messages.error(request, refusal.text)
        return _to_page(request, refill)

    @on_a_refill
    def next_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Skip a refill: release it, and go on to the next of the queue."""
        release([refill.pk], request.user)
        return self._go_on(request, refill)

    @on_a_refill
    def presence_view(self, request: SignedInRequest, refill: Refill) -> HttpResponseBase:
        """Note that the agent still looks at the refill. Answers who else does."""
        return JsonResponse({"text": presence.others(refill, request.user)})

    def undo_view(self, request: SignedInRequest) -> HttpResponseBase:
        """Undo what the agent has just done to refills (ids in ``refills``), from the list (``?back=``) or a page."""
        if not may_settle(request.user):
            raise PermissionDenied
        if request.method != "POST":
            messages.warning(request, NOTHING_CHANGED)
            return _to_list(request.GET.get("back", ""))
        ids = request.POST.get("refills", "").split()[:LARGEST_UNDO]
        outcome = undo(ids, request.user)
        report(request, outcome, "set back to pending")
        if len(ids) == 1 and (refill := _find(ids[0])):
            return _back(request, refill)
        return _to_list(request.GET.get("back", ""))

    def queue_view(self, request: SignedInRequest) -> HttpResponseBase:
        """Open the first refill of the queue (POST), or show how many wait (GET)."""
        if not may_settle(request.user):
            raise PermissionDenied
        query = request.GET.get("queue", "")
        if request.method == "POST":
            return self._go_on(request, None)
        waiting = self.filtered(request, query).waiting(timezone.now())
        context = {
            "opts": self.opts,
            "title": "The queue",
            "queue": query,
            "carried": urlencode({"queue": query}),
            "waiting": waiting.count(),
            "free": waiting.free_for(request.user, timezone.now()).count(),
        }
        return TemplateResponse(request, "admin/refills/refill/queue.html", self._context(request) | context)

    def _go_on(self, request: SignedInRequest, refill: Refill | None) -> HttpResponse:
        """Claim the next refill of the queue in which the agent works, and redirect to its page."""
        query = request.GET.get("queue", "")
        following = desk.claim_next(request.user, refill, self.filtered(request, query))
        if following is None:
            return redirect(f"{reverse('admin:refills_refill_queue')}?{urlencode({'queue': query})}")
        return _to_page(request, following)

    def _page(
        self,
        request: SignedInRequest,
        refill: Refill,
        *,
        settle_form: SettleForm | None = None,
        ask_to_confirm: bool = False,
        **bound_forms: forms.Form,
    ) -> HttpResponse:
        """Answer with the refill's page. The forms given keep what was typed into them, and say what is wrong."""
        now, query = timezone.now(), request.GET.get("queue", "")
        settles = may_settle(request.user) and refill.status in IN_FLIGHT
        following = desk.next_in_queue(request.user, now, refill, self.filtered(request, query)) if settles else None
        look = desk.look_at(refill, request.user, now)
        # The forms are not shown, because a colleague was first. What was typed into them may still become a note.
        lost = [settle_form, bound_forms.get("snooze_form")] if not settles or look.taken_by_another else []
        typed = [form.data.get(name, "") for form in lost if form for name in ("note", "words", "delivered")]
        dispatch = getattr(refill, "dispatch", None)
        context = {
            "opts": self.opts,
            "original": refill,
            "dispatch": dispatch,
            "steps": dispatch.steps.select_related("by") if dispatch else (),
            "decides": settles and dispatch is not None and dispatch.waits_for_decision,
            "title": f"Refill #{refill.number}",
            "look": look,
            "others": "" if "peek" in request.GET else presence.others(refill, request.user),
            "carried": urlencode({"queue": query}),
            "following": following,
            "may_settle": settles,
            "may_approve": refill.status in ALLOWED_FROM[RefillStatus.APPROVED],
            "may_note": may_settle(request.user),
            "may_reopen": may_reopen(request.user) and refill.status not in IN_FLIGHT,
            "ask_to_confirm": ask_to_confirm,
            "reasons": RejectionReason.objects.filter(active=True)[:REASONS_BY_KEY] if settles else [],
            "form": settle_form or SettleForm(auto_id="%s"),
            "note_form": NoteForm(initial={"note": "\n".join(filter(None, typed))}, auto_id="add-%s"),
            "snooze_form": SnoozeForm(auto_id="snooze-%s"),
            "reopen_form": NoteForm(prefix="reopen"),
            "media": self.media,
            **bound_forms,
        }
        return TemplateResponse(request, "admin/refills/refill/page.html", self._context(request) | context)

    def _context(self, request: SignedInRequest) -> dict[str, Any]:
        return self.admin_site.each_context(request)


def _find(object_id: str) -> Refill | None:
    """Find a refill by its number, or by its id as the admin quotes it. Loads all rows that its page shows with it."""
    reference = parse("ref", object_id.replace("_5F", "_"))
    related = (
        "order__service",
        "account",
        "api_key",
        "requested_by",
        "settled_by",
        "approved_by",
        "claimed_by",
        "snoozed_by",
        "dispatch__supplier",
    )
    return Refill.objects.select_related(*related).named([reference]).first()


def _back(request: SignedInRequest, refill: Refill) -> HttpResponse:
    """Redirect to the page with the button: the list, filtered as it was, or the refill's page."""
    return _to_list(request.GET["back"]) if "back" in request.GET else _to_page(request, refill)


def _to_list(query: str) -> HttpResponse:
    return redirect(f"{reverse('admin:refills_refill_changelist')}?{query}")


def _to_page(request: SignedInRequest, refill: Refill) -> HttpResponse:
    """Redirect to the refill's page, in the queue in which the agent works."""
    url = reverse("admin:refills_refill_change", args=[refill.pk])
    return redirect(f"{url}?{urlencode({'queue': request.GET['queue']})}" if "queue" in request.GET else url)
