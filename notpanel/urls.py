"""The map of the site, and the list of the API's actions. Nothing else knows all the apps."""

from django.contrib import admin
from django.urls import path, re_path
from django.views.generic import RedirectView

import orders.api
import refills.api
from apikeys.keys import authenticate
from notpanel.api.view import ApiView, NotFoundView

ACTIONS = (*refills.api.ACTIONS, *orders.api.ACTIONS)

api_v2 = ApiView.as_view(actions={action.name: action for action in ACTIONS}, authenticate=authenticate)

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v2", api_v2, name="api-v2"),
    path("api/v2/", api_v2),
    re_path(r"^api(?:/|$)", NotFoundView.as_view()),
]
