"""The map of the site, and the list of the API's actions. Nothing else knows all the apps."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.utils import timezone
from django.views.generic import RedirectView

import apikeys.views
import notpanel.views
import orders.api
import refills.api
import refills.dashboard
import refills.views
from apikeys.attempts import limit_sign_in
from apikeys.keys import authenticate
from notpanel.api.view import ApiView, NotFoundView, OpenApiView
from notpanel.developers import Developers

ACTIONS = (*refills.api.ACTIONS, *orders.api.ACTIONS)

api_v2 = ApiView.as_view(actions={action.name: action for action in ACTIONS}, authenticate=authenticate)
developers = Developers(ACTIONS, lambda account_id: refills.dashboard.own_ids(account_id, timezone.now()))

dashboard = [
    path("", refills.views.overview, name="overview"),
    path("orders/", refills.views.orders, name="orders"),
    path("orders/refill/", refills.views.refill, name="refill"),
    path("orders/list/", refills.views.refill_list, name="refill-list"),
    path("refills/", refills.views.refills, name="refills"),
    path("api/", apikeys.views.keys, name="keys"),
    path("api/<int:key_id>/", apikeys.views.key, name="key"),
    path("api/<int:key_id>/change/", apikeys.views.change_key, name="change-key"),
    path("api/<int:key_id>/revoke/", apikeys.views.revoke, name="revoke"),
    path("sign-in/", apikeys.views.sign_in, name="sign-in"),
    path("sign-out/", apikeys.views.sign_out, name="sign-out"),
    path("password/", apikeys.views.ChangePassword.as_view(), name="change-password"),
    path("password/changed/", apikeys.views.password_changed, name="password-changed"),
    path("password/reset/", apikeys.views.reset_password, name="reset-password"),
    path("password/reset/sent/", apikeys.views.reset_sent, name="reset-sent"),
    path("password/reset/<uidb64>/<token>/", apikeys.views.set_password, name="set-password"),
    path("password/set/", apikeys.views.password_set, name="password-set"),
]

urlpatterns = [
    path("api/v2", api_v2, name="api-v2"),
    path("api/v2/", api_v2),
    path("", notpanel.views.start, name="start"),
    path("dashboard/", include((dashboard, "dashboard"))),
    path("developers/", include((developers.urls, "developers"))),
    path("admin/login/", limit_sign_in(admin.site.login)),
    # The admin's own form would take any number of guesses of the old password.
    path("admin/password_change/", RedirectView.as_view(pattern_name="dashboard:change-password")),
    path("admin/", admin.site.urls),
    path("api/openapi.json", OpenApiView.as_view(actions=ACTIONS), name="openapi"),
    re_path(r"^api(?:/|$)", NotFoundView.as_view()),
]
handler400 = "notpanel.views.bad_request"
handler500 = "notpanel.views.server_error"
