from typing import Any

from django.http import HttpRequest
from unfold.sites import UnfoldAdminSite

APPS = ["refills", "orders", "apikeys"]


class DeskSite(UnfoldAdminSite):
    """The admin. Its menu begins with what support staff use all day."""

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """Return the apps with their models: refills first, and what belongs to no app of the project last."""
        apps: list[dict[str, Any]] = super().get_app_list(request, app_label)
        for app in apps:
            app["models"].sort(key=lambda model: model["object_name"] != "Refill")
        return sorted(apps, key=lambda app: APPS.index(app["app_label"]) if app["app_label"] in APPS else len(APPS))
