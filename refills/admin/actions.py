"""What staff do with the refills that they selected in the list."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from apikeys.requests import SignedInRequest
from notpanel.kit.public_id import parse
from notpanel.kit.refusals import Refusal
from refills.admin.forms import RejectForm, SnoozeForm
from refills.admin.status_changes import LARGEST_SELECTION, apply_change, may_settle, report, report_snoozed
from refills.models import Refill
from refills.refusals import SelectionGrew
from refills.settlement import StatusChange, claim, release
from refills.snoozing import snooze
from refills.statuses import RefillStatus

# What the fields in the bar of actions are called: it has no room for labels.
IN_BAR = {
    "reason": "Reason",
    "words": "Or words of your own",
    "hours": "Snooze for",
    "note": "Note, only for staff",
}


class BulkActions(ModelAdmin):
    actions = ("complete", "approve", "reject", "take", "release", "snooze")

    def has_settle_permission(self, request: SignedInRequest) -> bool:
        """Django asks this for an action with the permission "settle"."""
        return may_settle(request.user)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the list, with fields in its bar for the actions that need a reason, a time or a note."""
        bar = {"reject_form": RejectForm(auto_id="bar-%s"), "snooze_form": SnoozeForm(auto_id="bar-snooze-%s")}
        for form in bar.values():
            for name, field in form.fields.items():
                field.widget.attrs |= {"aria-label": IN_BAR[name], "placeholder": IN_BAR[name]}
            form.fields["note"].widget.attrs |= {"rows": 1, "data-key": ""}
        return super().changelist_view(request, bar | (extra_context or {}))

    @admin.action(description="Complete selected refills", permissions=["settle"])
    def complete(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> None:
        if selected := _selected(request, queryset):
            apply_change(request, selected, StatusChange(RefillStatus.COMPLETED))

    @admin.action(description="Approve selected refills", permissions=["settle"])
    def approve(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> None:
        if selected := _selected(request, queryset):
            apply_change(request, selected, StatusChange(RefillStatus.APPROVED))

    @admin.action(description="Reject selected refills…", permissions=["settle"])
    def reject(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> HttpResponse | None:
        """Reject with the reason in the bar of actions. Without one, ask for it."""
        if not (selected := _selected(request, queryset)):
            return None
        form = RejectForm(request.POST)
        if form.is_valid():
            try:
                form.change.stripped().check()
            except Refusal as refusal:
                form.add_error("reason", refusal.text)
            else:
                apply_change(request, selected, form.change)
                return None
        return self._ask(request, "Reject refills", "Reject", selected, form)

    @admin.action(description="Take selected refills", permissions=["settle"])
    def take(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> None:
        if selected := _selected(request, queryset):
            report(request, claim(selected, request.user), "taken")

    @admin.action(description="Release selected refills", permissions=["settle"])
    def release(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> None:
        if selected := _selected(request, queryset):
            release(selected, request.user)
            messages.success(request, "The selected refills that you had taken are released.")

    @admin.action(description="Snooze selected refills…", permissions=["settle"])
    def snooze(self, request: SignedInRequest, queryset: QuerySet[Refill]) -> HttpResponse | None:
        """Snooze for the time in the bar of actions. Without one, ask for it."""
        if not (selected := _selected(request, queryset)):
            return None
        form = SnoozeForm(request.POST)
        if not form.is_valid():
            return self._ask(request, "Snooze refills", "Snooze", selected, form)
        until = form.until
        report_snoozed(request, snooze(selected, request.user, until, form.cleaned_data["note"]), until)
        return None

    def _ask(
        self, request: SignedInRequest, title: str, verb: str, selected: list[str], form: forms.Form
    ) -> HttpResponse:
        """Ask for what is missing. The page keeps the selection and what was typed."""
        context = {
            "opts": self.opts,
            "title": title,
            "verb": verb,
            "action": request.POST["action"],
            "form": form,
            "selected": selected,
            "back": request.GET.urlencode(),
        }
        return TemplateResponse(
            request, "admin/refills/refill/ask.html", self.admin_site.each_context(request) | context
        )


def _selected(request: SignedInRequest, queryset: QuerySet[Refill]) -> list[str]:
    """Return the ids of the selected refills. If they cannot be taken, return none and tell the agent why."""
    if request.POST.get("select_across") == "1":
        # The whole list is the one that the agent saw: a refill that has come into it since is not selected.
        numbers = request.POST.get("shown", "").split()[: LARGEST_SELECTION + 1]
        selected = list(Refill.objects.named(parse("ref", number) for number in numbers).values_list("pk", flat=True))
        if not selected:
            too_many = len(queryset[: LARGEST_SELECTION + 1]) > LARGEST_SELECTION
            messages.error(request, _TOO_MANY if too_many else SelectionGrew.message)
            return []
    else:
        # The queryset leaves out what a colleague has settled since the list was loaded: its filter no longer matches.
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
    if len(selected) > LARGEST_SELECTION:
        messages.error(request, _TOO_MANY)
        return []
    return selected


_TOO_MANY = f"Select at most {LARGEST_SELECTION:,} refills."
