"""The request of an account that has signed in."""

from django.http import HttpRequest

from apikeys.models import Account


class SignedInRequest(HttpRequest):
    """A request of an account: what a view gets that is only for those who have signed in.

    No request is made of this class. It types the argument of views behind ``login_required`` or ``admin_view``.
    """

    user: Account
