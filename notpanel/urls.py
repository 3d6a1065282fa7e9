"""The map of the site, and the list of the API's actions. Nothing else knows all the apps."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

import apikeys.api
import apikeys.urls
import apikeys.webhooks.api
import notpanel.views
import orders.api
import refills.api
import refills.urls
from apikeys import panel_keys
from apikeys.idempotency import answer_once
from apikeys.imports import import_accounts
from apikeys.keys import authenticate
from apikeys.middleware import remember_who_acts
from apikeys.time_zone_views import time_zone
from apikeys.views import sign_in_at_the_desk
from notpanel.api.panel import PanelView
from notpanel.api.view import ApiView, NotFoundView, OpenApiView
from notpanel.developers import Developers
from orders.imports import import_orders, import_services

ACTIONS = (*refills.api.ACTIONS, *orders.api.ACTIONS, *apikeys.api.ACTIONS, *apikeys.webhooks.api.ACTIONS)

# Lets the audit log say from which address programs change an account, here and below.
api_v2 = remember_who_acts(
    ApiView.as_view(
        actions={action.name: action for action in ACTIONS}, authenticate=authenticate, answer_once=answer_once
    )
)
# Where the panel sends files.
panel = {
    name: remember_who_acts(PanelView.as_view(importer=importer, authenticate=panel_keys.authenticate, **options))
    for name, importer, options in (
        ("services", import_services, {}),
        ("orders", import_orders, {"has_times": True}),
        ("accounts", import_accounts, {}),
    )
}
developers = Developers(ACTIONS, refills.api.own_ids)

dashboard = [*refills.urls.urlpatterns, *apikeys.urls.urlpatterns]

urlpatterns = [
    path("api/v2", api_v2, name="api-v2"),
    path("api/v2/", api_v2),
    *(re_path(rf"^api/panel/{name}/?$", view, name=f"panel-{name}") for name, view in panel.items()),
    path("", notpanel.views.start, name="start"),
    path("robots.txt", notpanel.views.robots),
    path("favicon.ico", notpanel.views.favicon),
    path("dashboard/", include((dashboard, "dashboard"))),
    path("developers/", include((developers.urls, "developers"))),
    path("admin/login/", sign_in_at_the_desk),
    # The admin's own form does not limit guesses of the old password; the dashboard's does.
    path("admin/password_change/", RedirectView.as_view(pattern_name="dashboard:change-password")),
    path("admin/time-zone/", admin.site.admin_view(time_zone), name="time-zone"),
    path("admin/autocomplete/", notpanel.views.of_a_relation(admin.site.admin_view(admin.site.autocomplete_view))),
    # “View on site”: nothing in the admin has a page there, and Django's view fails on ids that are no numbers.
    path("admin/r/<path:rest>", notpanel.views.not_found),
    path("admin/", admin.site.urls),
    path("api/openapi.json", OpenApiView.as_view(actions=ACTIONS), name="openapi"),
    re_path(r"^api(?![A-Za-z0-9_-])", NotFoundView.as_view()),
]
handler400 = "notpanel.views.bad_request"
handler500 = "notpanel.views.server_error"
