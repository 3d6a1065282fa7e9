"""Middleware that knows accounts. It runs for pages only, after Django's AuthenticationMiddleware."""

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django_otp import DEVICE_ID_SESSION_KEY

from apikeys import acting, second_factor
from apikeys.passwords import began_too_short
from apikeys.second_factor_views import ask_for_code
from apikeys.time_zones import zone_named

GetResponse = Callable[[HttpRequest], HttpResponse]


def remember_who_acts(get_response: GetResponse) -> GetResponse:
    """Let the audit log say who did something, and from which address."""

    def respond(request: HttpRequest) -> HttpResponse:
        with acting.through(request):
            return get_response(request)

    return respond


SIGNED_IN_AT, SEEN_AT = "signed_in_at", "seen_at"  # in the session, in Unix seconds
NOTED_EVERY = 60  # seconds; pages that follow sooner write nothing


def end_sessions_of_staff(get_response: GetResponse) -> GetResponse:
    """Sign staff out after STAFF_SESSION_HOURS, and after STAFF_IDLE_MINUTES without a page."""

    def respond(request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and getattr(request.user, "is_staff", False):
            now, session = time.time(), request.session
            signed_in_at = session.setdefault(SIGNED_IN_AT, now)
            seen_at = session.setdefault(SEEN_AT, now)
            if now - signed_in_at >= settings.STAFF_SESSION_HOURS * 3600:
                _sign_out(request, f"{settings.STAFF_SESSION_HOURS} hours")
            elif now - seen_at >= settings.STAFF_IDLE_MINUTES * 60:
                _sign_out(request, f"{settings.STAFF_IDLE_MINUTES} minutes idle")
            elif now - seen_at >= NOTED_EVERY:
                session[SEEN_AT] = now
        return get_response(request)

    return respond


def require_second_factor(get_response: GetResponse) -> GetResponse:
    """Let staff who have a second factor, or must have one, reach the desk only after they have proved it."""

    def respond(request: HttpRequest) -> HttpResponse:
        user: Any = request.user
        if not (_is_for_the_desk(request.path_info) and user.is_authenticated and user.is_staff):
            return get_response(request)
        device = second_factor.device_of(user)
        if device is None and second_factor.is_required(user):
            return redirect("dashboard:second-factor")
        if device is not None and request.session.get(DEVICE_ID_SESSION_KEY) != device.persistent_id:
            then = request.get_full_path() if request.method == "GET" else reverse("admin:index")
            too_short = began_too_short(request.session)
            return ask_for_code(request, user, request.session[BACKEND_SESSION_KEY], then, too_short)
        return get_response(request)

    return respond


def require_password_of_staff(get_response: GetResponse) -> GetResponse:
    """Keep staff who signed in with a password too short for staff away from the desk until they change it."""

    def respond(request: HttpRequest) -> HttpResponse:
        user: Any = request.user
        is_staff = user.is_authenticated and user.is_staff
        if is_staff and _is_for_the_desk(request.path_info) and began_too_short(request.session):
            return redirect("dashboard:change-password")
        return get_response(request)

    return respond


def show_times_of_staff(get_response: GetResponse) -> GetResponse:
    """Show and read times on the admin's pages in the time zone of the signed-in user."""

    def respond(request: HttpRequest) -> HttpResponse:
        user: Any = request.user
        if not (request.path_info.startswith(reverse("admin:index")) and user.is_authenticated):
            return get_response(request)
        with timezone.override(zone_named(user.time_zone)):
            return get_response(request)

    return respond


def _is_for_the_desk(path: str) -> bool:
    """Return whether the path is one of the admin's, other than those to sign in and out."""
    return path.startswith(reverse("admin:index")) and path not in (reverse("admin:login"), reverse("admin:logout"))


def _sign_out(request: HttpRequest, because: str) -> None:
    request.ended_after = because  # type: ignore[attr-defined]  # for the audit log
    logout(request)
