"""The pages on which customers manage the endpoints of their webhooks: parse, call, show."""

import uuid

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from apikeys.forms import PasswordAgainForm, with_wait
from apikeys.models import WebhookEndpoint
from apikeys.refusals import WebhookNotFound
from apikeys.requests import SignedInRequest
from apikeys.webhooks import endpoints
from apikeys.webhooks.forms import ReplayForm, WebhookForm
from notpanel.kit.pagination import page_of
from notpanel.kit.refusals import Refusal


@login_required
@never_cache
@sensitive_post_parameters("password")
def webhooks(request: SignedInRequest) -> HttpResponse:
    """List the endpoints. A POST adds one and shows its secret, only this once."""
    form = WebhookForm(request.user, request.POST or None)
    if form.is_valid():
        try:
            added = endpoints.add_endpoint(request.user.pk, form.cleaned_data["url"], form.cleaned_data["events"])
            return _show_once(request, *added)
        except Refusal as refusal:
            form.add_error("url", f"{refusal.text}.")
    context = {
        "form": form,
        "endpoints": list(endpoints.endpoints_of(request.user.pk)),
        "most": endpoints.LARGEST_NUMBER,
    }
    return with_wait(form, render(request, "dashboard/webhooks.html", context))


@login_required
@never_cache
@sensitive_post_parameters("password")
def webhook(request: SignedInRequest, endpoint_id: str) -> HttpResponse:
    """Show an endpoint and its deliveries, the latest first. A POST rotates its secret, and shows it once."""
    endpoint = _own(request, endpoint_id)
    form = PasswordAgainForm(request.user, request.POST or None)
    if form.is_valid():
        try:
            version = request.POST.get("version", "")
            return _show_once(request, *endpoints.rotate_secret(request.user.pk, endpoint.pk, version))
        except Refusal as refusal:
            form.add_error(None, refusal.text)
    page = page_of(endpoint.deliveries.all(), before=request.GET.get("before", ""), after=request.GET.get("after", ""))
    context = {
        "endpoint": endpoint,
        "form": form,
        "version": endpoints.secret_version(endpoint),
        "replay_form": ReplayForm(),
        "page": page,
        "days": settings.WEBHOOK_DAYS,
        "hours": int(endpoints.BOTH_SIGN_FOR.total_seconds() // 3600),
    }
    return with_wait(form, render(request, "dashboard/webhook.html", context))


@login_required
def change(request: SignedInRequest, endpoint_id: str, what: str) -> HttpResponse:
    """Do one thing with an endpoint, and return to its page."""
    if request.method == "POST":  # a customer who had to sign in first arrives by GET
        account, endpoint = request.user.pk, _own(request, endpoint_id)
        try:
            match what:
                case "test":
                    endpoints.send_test(account, endpoint.pk)
                    done = "A test event is on its way. Reload the page to see its result."
                case "pause":
                    endpoints.pause(account, endpoint.pk)
                    done = "The webhook is paused. Its events wait until you resume it."
                case "resume":
                    endpoints.resume(account, endpoint.pk)
                    done = "The webhook is resumed."
                case "replay":
                    endpoints.replay(account, endpoint.pk, _delivery_id(request))
                    done = "The delivery is on its way again. Reload the page to see its result."
                case "replay-failed":
                    done = _replay_failed(request, endpoint)
                case "remove":
                    endpoints.remove_endpoint(account, endpoint.pk)
                    messages.success(request, f"{endpoint.url} was removed. Nothing more is posted to it.")
                    return redirect("dashboard:webhooks")
                case _:
                    raise Http404
            messages.success(request, done)
        except Refusal as refusal:
            messages.error(request, refusal.text)
    return redirect("dashboard:webhook", endpoint_id)


def _replay_failed(request: SignedInRequest, endpoint: WebhookEndpoint) -> str:
    form = ReplayForm(request.POST)
    if not form.is_valid():
        return "Nothing was replayed. Choose a day and a time."
    count = endpoints.replay_failed(request.user.pk, endpoint.pk, form.cleaned_data["since"])
    return "1 delivery is on its way again." if count == 1 else f"{count} deliveries are on their way again."


def _delivery_id(request: SignedInRequest) -> uuid.UUID:
    try:
        return uuid.UUID(request.POST.get("delivery", ""))
    except ValueError as error:
        raise Http404 from error


def _own(request: SignedInRequest, endpoint_id: str) -> WebhookEndpoint:
    try:
        return endpoints.endpoint_of(request.user.pk, endpoint_id)
    except WebhookNotFound as error:
        raise Http404 from error


@sensitive_variables("secret")
def _show_once(request: SignedInRequest, endpoint: WebhookEndpoint, secret: str) -> HttpResponse:
    return render(request, "dashboard/webhook_secret.html", {"endpoint": endpoint, "secret": secret})
