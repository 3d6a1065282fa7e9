"""The staff desk: refills, and the reasons for which they are rejected, in the admin.

``changelist`` is the list, ``page`` a refill's page, ``actions`` are for a selection, ``export`` writes refills as CSV,
``list_page`` settles a pasted list, ``suppliers`` shows what went to suppliers.
Every button, form and action that changes a status calls ``status_changes.apply_change``.
"""

from django.contrib import admin
from django.http import HttpRequest

from apikeys.models import Account
from notpanel.kit.admin import FilteredAdmin, LargeTableAdmin, ReadOnlyAdmin, add_panel, add_section
from orders.models import Order, Supplier
from refills.admin.actions import BulkActions
from refills.admin.changelist import RefillListAdmin
from refills.admin.export import Export
from refills.admin.list_page import ListPage
from refills.admin.page import RefillPage
from refills.admin.requests import RequestPage
from refills.admin.sections import customer_at_a_glance, latest_refills, request_for_the_order, rules_now
from refills.admin.suppliers import scorecard
from refills.models import Refill, RejectionReason

add_panel(Account, customer_at_a_glance)
add_panel(Order, request_for_the_order)
add_section(Order, "Would a refill be accepted now?", rules_now)
add_section(Order, "Refills", latest_refills)
add_section(Account, "Refills", latest_refills)
add_section(Supplier, "Refills of the last 30 days", scorecard)


@admin.register(Refill)
class RefillAdmin(
    RefillListAdmin, RefillPage, RequestPage, BulkActions, Export, ListPage, LargeTableAdmin, ReadOnlyAdmin
):
    pass


@admin.register(RejectionReason)
class RejectionReasonAdmin(FilteredAdmin):
    list_display = ("text", "active")

    def has_delete_permission(self, request: HttpRequest, obj: RejectionReason | None = None) -> bool:
        return False  # refills refer to it: staff make it inactive
