"""The page on which staff paste or upload a list of refills or orders, look at a preview, and settle it."""

import re
from collections import Counter
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from apikeys.requests import SignedInRequest
from notpanel.api.parameters import QUOTES, split_ids
from notpanel.kit.public_id import LARGEST_NUMBER, parse
from notpanel.kit.refusals import Refusal
from refills import lists
from refills.admin.forms import SettleForm
from refills.admin.status_changes import may_settle, report
from refills.lists import LARGEST_LIST, Entry, Line, Numbers

LARGEST_FILE = 256 * 1024  # bytes; a list of LARGEST_LIST lines is far smaller
CHOOSE_NUMBERS = "Choose what the plain numbers refer to."
NOT_TEXT = "Upload a text file in UTF-8: from a spreadsheet, save it as “CSV UTF-8”."
# A line of exactly two columns, the second of which is a plain number.
_WITH_UNITS = re.compile(rf"([^,;\t|]+)[,;\t]\s*[{QUOTES}]?(0|[1-9][0-9]{{0,18}})[{QUOTES}]?\s*")


class ListForm(forms.Form):
    """A list as staff paste or upload it."""

    text = forms.CharField(
        label="Ids or numbers",
        required=False,
        max_length=LARGEST_FILE,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8, "spellcheck": "false"}),
        error_messages={"max_length": f"Paste at most {LARGEST_LIST:,} ids or numbers."},
    )
    file = forms.FileField(
        label="Or a file",
        required=False,
        error_messages={"empty": "Upload another file: this one is empty."},
    )
    numbers = forms.TypedChoiceField(
        label="Plain numbers refer to",
        choices=Numbers.choices,
        coerce=Numbers,
        initial=Numbers.EITHER,
        widget=UnfoldAdminSelectWidget,
        error_messages={"required": CHOOSE_NUMBERS, "invalid_choice": CHOOSE_NUMBERS},
    )

    def clean_file(self) -> str:
        """Return the text in the file, "" without one."""
        file: UploadedFile | None = self.cleaned_data["file"]
        if file is None:
            return ""
        if (file.size or 0) > LARGEST_FILE:
            raise forms.ValidationError(f"Upload a file of at most {LARGEST_FILE // 1024} KB.")
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise forms.ValidationError(NOT_TEXT) from None
        if "\x00" in text:
            raise forms.ValidationError(NOT_TEXT)
        return text

    def clean(self) -> dict[str, Any]:
        """Put what was pasted and what was uploaded together, and read the entries in it."""
        sent = super().clean() or self.cleaned_data
        if self.errors:
            return sent
        sent["text"] = "\n".join(filter(None, (sent["text"], sent["file"])))
        sent["entries"] = _read(sent["text"])
        if not sent["entries"]:
            self.add_error("text", "Paste ids or numbers, or upload a file that has some.")
        elif len(sent["entries"]) > LARGEST_LIST:
            count = len(sent["entries"])
            self.add_error("text", f"Paste at most {LARGEST_LIST:,} ids or numbers at once: these are {count:,}.")
        return sent


class ListPage(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.list_view)
        return [path("list/", view, name="refills_refill_list"), *super().get_urls()]

    def list_view(self, request: SignedInRequest) -> HttpResponseBase:
        """Show the form, preview what was pasted, or settle what was previewed."""
        if not may_settle(request.user):
            raise PermissionDenied
        if request.method != "POST":
            return self._list_page(request, ListForm())
        form = ListForm(request.POST, request.FILES)
        settle_form = SettleForm(request.POST) if "to" in request.POST else None
        # Settle what was previewed, whatever the text would name now.
        if settle_form and settle_form.is_valid() and self._settle(request, settle_form):
            return redirect(f"{reverse('admin:refills_refill_list')}?done=yes")
        return self._list_page(request, form, settle_form)

    def _settle(self, request: SignedInRequest, form: SettleForm) -> bool:
        """Settle the refills of the preview, and tell the agent. Returns whether any was."""
        try:
            outcome = lists.settle(_carried(request.POST.get("refills", ""), form), form.change, request.user)
        except Refusal as refusal:
            form.add_error(None, refusal.text)
            return False
        report(request, outcome, form.change.to.label.lower(), undoable=True)
        return bool(outcome.done)

    def _list_page(
        self, request: SignedInRequest, form: ListForm, settle_form: SettleForm | None = None
    ) -> HttpResponse:
        lines: list[Line] = []
        if form.is_bound and form.is_valid():
            lines = lists.preview(form.cleaned_data["entries"], request.user, form.cleaned_data["numbers"])
            # The box shows what an uploaded file holds, too.
            form = ListForm({"text": form.cleaned_data["text"], "numbers": form.cleaned_data["numbers"]})
        good = [line for line in lines if line.refill and not line.problem]
        context = {
            "opts": self.opts,
            "title": "Settle a list",
            "list_form": form,
            "form": settle_form or SettleForm(),
            "lines": lines,
            "good": good,
            "left_out": Counter(_kind(line.problem) for line in lines if line.problem).most_common(),
            "has_units": any(line.entry.delivered is not None for line in good),
            "has_warnings": any(line.warning for line in good),
            "refills": " ".join(_carry(line) for line in good),
            "largest_list": LARGEST_LIST,
            "done": "done" in request.GET,
        }
        return TemplateResponse(
            request, "admin/refills/refill/list_page.html", self.admin_site.each_context(request) | context
        )


def _read(text: str) -> list[Entry]:
    """Return the ids and numbers in a text, each with its line."""
    entries = []
    for line, content in enumerate(text.splitlines(), start=1):
        if match := _WITH_UNITS.fullmatch(content.strip()):
            named = split_ids(match[1])
            if len(named) == 1 and int(match[2]) <= LARGEST_NUMBER:
                entries.append(Entry(line, named[0], int(match[2])))
                continue
        entries += [Entry(line, each) for each in split_ids(content)]
    return entries


def _carry(line: Line) -> str:
    """Return a previewed refill as the form carries it: its id, and its units if the list has them."""
    units = line.entry.delivered
    return f"{line.refill.pk}:{units}" if line.refill and units is not None else str(line.refill)


def _carried(text: str, form: SettleForm) -> dict[str, int | None]:
    """Return the refills that the form carries, and their units if they are completed."""
    completes = form.change.to == "completed"
    refills: dict[str, int | None] = {}
    for each in text.split()[:LARGEST_LIST]:
        refill_id, _, units = each.partition(":")
        reference = parse("ref", refill_id)
        if isinstance(reference, str):
            is_number = units.isascii() and units.isdigit() and len(units) < 20 and int(units) <= LARGEST_NUMBER
            refills[reference] = int(units) if completes and is_number else None
    return refills


def _kind(problem: str) -> str:
    """Return a problem without what differs from line to line, so that equal ones can be counted."""
    for start in ("it is in the list already", "it may be", "no refill was requested"):
        if problem.startswith(start):
            return {"it may be": "it is not clear what they are"}.get(start, start)
    return problem
