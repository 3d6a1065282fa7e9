"""New agents and leavers: what superusers do with accounts of the staff."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from apikeys.admin.forms import NewAgentForm
from apikeys.admin.rights import is_superuser
from apikeys.admin.steps import on_an_account
from apikeys.models import Account
from apikeys.requests import SignedInRequest
from apikeys.staff import create_agent, invite, leave
from notpanel.kit.refusals import Refusal


class StaffPages(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("new-agent/", wrap(self.new_agent_view), name="apikeys_account_new_agent"),
            path("<int:account_id>/invite/", wrap(self.invite_view), name="apikeys_account_invite"),
            path("<int:account_id>/leave/", wrap(self.leave_view), name="apikeys_account_leave"),
            *super().get_urls(),
        ]

    def new_agent_view(self, request: SignedInRequest) -> HttpResponse:
        """Create an account of the staff, and invite its owner."""
        if not is_superuser(request):
            raise PermissionDenied
        form = NewAgentForm(request.POST or None)
        if form.is_valid():
            sent = form.cleaned_data
            try:
                agent = create_agent(sent["username"], sent["email"], sent["role"], request.user)
            except Refusal as refusal:
                form.add_error("username", refusal.text)
            else:
                self._invite(request, agent)
                return redirect("admin:apikeys_account_change", agent.pk)
        return self._answer(request, "new_agent.html", {"title": "New agent", "form": form})

    def _invite(self, request: SignedInRequest, agent: Account) -> None:
        try:
            invite(agent, request.user, request.build_absolute_uri)
        except Refusal as refusal:
            messages.error(request, refusal.text)
        else:
            messages.success(request, f"{agent} is now a member of staff. An invitation was sent to {agent.email}.")

    @on_an_account(is_superuser)
    def invite_view(self, request: SignedInRequest, account: Account) -> tuple[str, bool]:
        """Send another invitation."""
        invite(account, request.user, request.build_absolute_uri)
        return f"Another invitation was sent to {account.email}.", True

    def leave_view(self, request: SignedInRequest, account_id: int) -> HttpResponse:
        """Ask whether somebody is leaving the staff (GET), and end everything that the account can do (POST)."""
        if not is_superuser(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._leave(request, account_id)
        account = get_object_or_404(Account, pk=account_id)
        context = {"title": f"{account} leaves the staff", "account": account, "groups": account.groups.all()}
        return self._answer(request, "leave.html", context)

    @on_an_account(is_superuser)
    def _leave(self, request: SignedInRequest, account: Account) -> tuple[str, bool]:
        ended = leave(account, request.user)
        counts = ", ".join(f"{what}: {count}" for what, count in ended.items())
        return f"{account} has left the staff and is signed out everywhere. {counts}.", True

    def _answer(self, request: SignedInRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        context = self.admin_site.each_context(request) | {"opts": self.opts} | context
        return TemplateResponse(request, f"admin/apikeys/account/{template}", context)
