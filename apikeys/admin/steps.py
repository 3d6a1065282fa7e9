"""What the buttons of an account's page have in common."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from apikeys.models import Account
from apikeys.requests import SignedInRequest
from notpanel.kit.refusals import Refusal

NOTHING_CHANGED = "Nothing was changed. Press the button again."

Step = Callable[[Any, SignedInRequest, Account], tuple[str, bool]]


def on_an_account(may: Callable[[HttpRequest], bool]) -> Callable[[Step], Callable[..., HttpResponse]]:
    """Run the step on a POST with the account whose id is in the address, show its message, and return to the page.

    The step returns its message, and whether anything was changed. A refusal is shown as a message. A GET comes from a
    user who pressed the button and had to sign in again: it redirects to the page. Staff for whom ``may`` is false are
    refused.
    """

    def decorate(step: Step) -> Callable[..., HttpResponse]:
        @wraps(step)
        def view(self: Any, request: SignedInRequest, account_id: int) -> HttpResponse:
            if not may(request):
                raise PermissionDenied
            account = get_object_or_404(Account, pk=account_id)
            if request.method != "POST":
                messages.warning(request, NOTHING_CHANGED)
                return redirect("admin:apikeys_account_change", account.pk)
            try:
                words, changed = step(self, request, account)
            except Refusal as refusal:
                messages.error(request, refusal.text)
            else:
                messages.add_message(request, messages.SUCCESS if changed else messages.WARNING, words)
            return redirect("admin:apikeys_account_change", account.pk)

        return view

    return decorate
